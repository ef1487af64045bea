"""Lists and class names: spaces in paths, words pandas would lose, lines that are refused."""

from pathlib import Path

import pytest

from training.data.annotations import (
    AnnotationError,
    first_file_number,
    parse_frame_folder,
    parse_video_file,
    read_class_names,
)


def test_paths_may_hold_spaces() -> None:
    assert parse_frame_folder("my videos/a 1 240 3\n").path == "my videos/a 1"
    entry = parse_video_file("my videos/a 1.mp4\t3\r\n")
    assert (entry.path, entry.label) == ("my videos/a 1.mp4", 3)


@pytest.mark.parametrize("line", ["", "a", "a b", "a 1", "a x 3", "a 10 -1", "a 1.5 2"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(AnnotationError):
        parse_frame_folder(line)


@pytest.mark.parametrize("line", ["", "a.mp4", "a.mp4 three"])
def test_other_video_lines_are_refused(line: str) -> None:
    with pytest.raises(AnnotationError):
        parse_video_file(line)


def test_files_start_at_one_but_for_one_template() -> None:
    assert first_file_number() == 1
    assert first_file_number("frame{:d}.jpg") == 0
    assert first_file_number("frame{:d}.jpg", 5) == 5


def test_class_names_keep_the_order_of_the_file_and_every_word(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('id,name\n7,none\n0,"a, b"\n1,nan\n', encoding="utf-8")
    assert read_class_names(path) == ["none", "a, b", "nan"]
    path.write_text("none\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match="id,name"):
        read_class_names(path)
