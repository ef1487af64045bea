"""The folder a server keeps corrected clips in, as a source of training: alone, beside another, whatever is missing."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve.feedback.folder import Correction, FeedbackFolder
from serve.feedback.index import INDEX, clip_path
from serve.lists.errors import AnnotationError
from tests.training.conftest import CLASSES
from tests.training.lists import read_rows
from tests.training.test_trainer import DEMO, SMALL
from training.__main__ import app
from training.config import ConfigError, TrainConfig, as_dict, load_config
from training.data.lists.listing import detect_kind
from training.sources.labelled import LabelledSource


@pytest.fixture
def kept(tmp_path: Path, class_folders: Path) -> FeedbackFolder:
    """Five clips: four of two classes, one of a new one; labels as different people write them."""
    folder = FeedbackFolder(tmp_path / "feedback", max_bytes=10**9, max_clips=100)
    folder.open()
    clips = sorted((class_folders / "waving").iterdir())
    labels = ("Waving", "waving ", "WAVING", "opening  arms", "moonwalking")
    for clip, label in zip([*clips, clips[0]], labels, strict=True):
        folder.add(clip, Correction(label=label.strip()), container="avi")
    return folder


def config(*changes: str) -> TrainConfig:
    return load_config(DEMO, [*SMALL, *changes])


def test_a_folder_of_feedback_is_a_list_by_name(kept: FeedbackFolder) -> None:
    assert detect_kind(kept.folder) == "feedback"
    rows = read_rows("feedback", kept.folder)
    assert [row.name for row in rows] == ["Waving", "Waving", "Waving", "opening  arms", "moonwalking"]
    assert all(row.path.is_file() and row.path.parent == kept.folder / "clips" for row in rows)


def test_what_is_erased_lost_or_half_written_is_left_out(kept: FeedbackFolder) -> None:
    first, second, *_ = kept.rows()
    kept.remove(first.feedback_id, is_visible=lambda _: True)
    clip_path(kept.folder, second).unlink()
    with (kept.folder / INDEX).open("ab") as stream:
        stream.write(b"\xff\xfe\n[[[[\n" + b'{"feedback_id": "half')
    (kept.folder / "clips" / f"{'0' * 32}.partial").write_bytes(b"half")
    assert [row.name for row in read_rows("feedback", kept.folder)] == ["WAVING", "opening  arms", "moonwalking"]


def test_a_folder_without_feedback_is_reported(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="give the feedback folder of a server"):
        read_rows("feedback", tmp_path / "nowhere")
    with pytest.raises(AnnotationError, match="the list is empty"):
        LabelledSource(config("data.source=feedback", f"data.train={tmp_path}"))


def test_feedback_alone_is_trained_on(kept: FeedbackFolder) -> None:
    source = LabelledSource(config("data.source=feedback", f"data.train={kept.folder}"))
    assert source.labels == ("Waving", "moonwalking", "opening  arms")
    clips, labels = next(iter(source.batches(first_step=0)))
    assert len(clips) == len(labels) > 0


def test_feedback_joins_another_source_under_its_class_names(kept: FeedbackFolder, class_folders: Path) -> None:
    extra = json.dumps([{"source": "feedback", "train": str(kept.folder), "repeat": 3}])
    resolved = config("data.source=folder", f"data.train={class_folders}", f"data.extra={extra}")
    assert as_dict(resolved)["data"]["extra"][0]["repeat"] == 3
    source = LabelledSource(resolved)
    assert source.labels == (*CLASSES, "moonwalking")
    assert "27 labelled videos of 4 classes" in source.card([], seconds=1, clips=1)  # 12 + 3 * 5
    seen: list[int] = []
    for _, labels in source.batches(first_step=0):
        seen += labels.tolist()
        if len(seen) >= 27:
            break
    assert [seen[:27].count(label) for label in range(4)] == [4, 4 + 3, 4 + 9, 3]  # an epoch


def test_an_empty_folder_joins_without_harm(tmp_path: Path, class_folders: Path) -> None:
    FeedbackFolder(tmp_path, max_bytes=1, max_clips=1).open()
    extra = json.dumps([{"train": str(tmp_path)}])
    source = LabelledSource(config("data.source=folder", f"data.train={class_folders}", f"data.extra={extra}"))
    assert source.labels == CLASSES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('[{"source": "feedback"}]', "data.extra: `train`"),
        ('[{"train": "x", "repeat": 0}]', "repeat"),
        ('[{"train": "x", "weight": 2}]', r"data.extra\[0\]: unknown key weight"),
        ('["x"]', r"data.extra\[0\] must be a mapping"),
    ],
    ids=["no folder", "repeat", "unknown key", "no mapping"],
)
def test_an_extra_source_that_cannot_be_is_reported(change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(f"data.extra={change}")


def test_the_demo_world_and_shards_take_no_extra_source(kept: FeedbackFolder) -> None:
    from training.sources.registry import make_source

    extra = json.dumps([{"train": str(kept.folder)}])
    with pytest.raises(ConfigError, match=r"data\.extra"):
        make_source(config(f"data.extra={extra}"))
    with pytest.raises(ConfigError, match=r"data\.extra"):
        make_source(config("data.source=shards", "data.train=x", f"data.extra={extra}"))


def test_check_reads_feedback_as_training_would(kept: FeedbackFolder, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    options = ["--image-size", "32", "--num-frames", "4", "--workers", "1", "--sheet", str(sheet)]
    done = CliRunner().invoke(app, ["check", str(kept.folder), *options])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["is_fit"]
    assert report["classes"][str(kept.folder)] == {"Waving": 3, "moonwalking": 1, "opening  arms": 1}
    assert len(report["findings"]["same_content_other_label"]) == 1  # the first clip stands under two labels
    assert sheet.is_file()
