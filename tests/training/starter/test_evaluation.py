"""The evaluation of the starter model reads its index like other lists, and counts skipped clips."""

from pathlib import Path

import pytest

from serve.lists.errors import AnnotationError
from training.config import ConfigError
from training.starter.evaluation import read_clips
from training.starter.words import evaluation_labels


def test_clips_with_labels_of_the_evaluation_are_used_and_the_others_counted(tmp_path: Path) -> None:
    first, second, *_ = evaluation_labels()["en"]
    rows = (f"a.mp4;{second}", f"b.mp4;{first}", "c.mp4;no label of it", "d.mp4;")
    (tmp_path / "index.csv").write_text("\n".join(("path;class", *rows)), encoding="utf-8-sig")
    clips = read_clips(tmp_path)
    assert [path.name for path in clips.paths] == ["a.mp4", "b.mp4"]
    assert (clips.labels.tolist(), clips.num_skipped) == ([1, 0], 2)


def test_an_index_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"index\.csv"):
        read_clips(tmp_path)
    (tmp_path / "index.csv").write_text("file,label\na.mp4,playing, loudly\n")
    with pytest.raises(AnnotationError, match=r"index\.csv, line 2: .*loudly"):
        read_clips(tmp_path)
    (tmp_path / "index.csv").write_text("file,label\na.mp4,no label of it\n")
    with pytest.raises(ConfigError, match="has no clip with one of the"):
        read_clips(tmp_path)
