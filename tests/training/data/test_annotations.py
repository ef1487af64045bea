"""Lists and class names: spaces in paths, words pandas would lose, lines that are refused."""

from pathlib import Path

import pytest

from training.data.frame_folders import first_file_number
from training.data.lists.annotations import AnnotationError, parse_frame_folder, parse_video_file, read_class_names


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


def test_class_names_come_in_the_order_of_their_ids_and_keep_every_word(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('id,name\n2,none\n0,"a, b"\n1,nan\n', encoding="utf-8")
    assert read_class_names(path) == ["a, b", "nan", "none"]
    path.write_text("ID, Name\r\n1, second\r\n0, first\r\n", encoding="utf-8-sig")
    assert read_class_names(path) == ["first", "second"]
    path.write_text("name\nb\na\n", encoding="utf-8")
    assert read_class_names(path) == ["b", "a"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("none\n", "id,name"),
        ("id,name\n1,run\n2,jump\n", r"labels\.csv, line 3: .* 0 to 1, each once, found 2"),
        ("id,name\n0,run\n0,jump\n", r"labels\.csv, line 3: the id 0 stands in line 2"),
        ("id,name\n0,run\n5,jump\n", r"line 3: .* found 5"),
        ("id,name\n0,run\nx,jump\n", r"line 3: .* found 'x'"),
        ("id,name\n0,run\n-1,jump\n", r"line 3: .* found '-1'"),
        ("id,name\n0,run\n1\n", r"line 3: the name is missing"),
        ("id,name\n0,run, then jump\n", r"line 2: .* quotes"),
    ],
    ids=["no header", "from one", "twice", "gap", "no number", "negative", "no name", "comma"],
)
def test_class_ids_that_do_not_name_each_label_once_are_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AnnotationError, match=words):
        read_class_names(path)


def test_a_class_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"id,name\n0,\xff\xfe\n")
    with pytest.raises(AnnotationError, match=r"labels\.csv cannot be read"):
        read_class_names(tmp_path / "labels.csv")
