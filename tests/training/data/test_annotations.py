"""Lines of lists and class lists: separators, spaces in paths, words pandas would lose, what is refused."""

from pathlib import Path

import pytest

from serve.lists.errors import AnnotationError
from training.data.frame_folders import first_file_number
from training.data.lists.class_lists import read_class_list, read_class_names
from training.data.lists.text_lists import parse_frame_folder_line, parse_video_file_line


def test_paths_may_hold_spaces() -> None:
    assert parse_frame_folder_line("my videos/a 1 240 3\n").path == "my videos/a 1"
    entry = parse_video_file_line("my videos/a 1.mp4\t3\r\n")
    assert (entry.path, entry.label) == ("my videos/a 1.mp4", 3)


@pytest.mark.parametrize(
    "line", ["a b 24 3", "a b\t24\t3", "a b  24  3", "a b, 24, 3", "a b;24;3", '"a b" 24 3', " a b 24 3 "]
)
def test_fields_are_separated_by_tabs_spaces_commas_or_semicolons(line: str) -> None:
    found = parse_frame_folder_line(line)
    assert (found.path, found.num_frames, found.label) == ("a b", 24, 3)


@pytest.mark.parametrize("line", ["a b.mp4 3", "a b.mp4\t3", "a b.mp4   3", "a b.mp4,3", "a b.mp4, 3", "a b.mp4 ; 3"])
def test_video_lines_as_well(line: str) -> None:
    found = parse_video_file_line(line)
    assert (found.path, found.label) == ("a b.mp4", 3)


@pytest.mark.parametrize("line", ["", "a", "a b", "a 1", "a x 3", "a 10 -1", "a 1.5 2", "a 10 ٣"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(AnnotationError):
        parse_frame_folder_line(line)


@pytest.mark.parametrize("line", ["", "a.mp4", "a.mp4 three", "a.mp4 1.0", "a.mp4 archery"])
def test_other_video_lines_are_refused(line: str) -> None:
    with pytest.raises(AnnotationError):
        parse_video_file_line(line)


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
    path.write_text("label,name\n1,b\n0,a\n", encoding="utf-8")
    assert read_class_names(path) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text", "first_id"),
    [
        ("classInd.txt", "2 b c\r\n1 a\r\n", 1),
        ("ids.txt", "0,a\n1,b c\n", 0),
        ("ids.csv", '1,b c\n0,"a"\n', 0),
        ("one.csv", "id,name\n2,b c\n1,a\n", 1),
        ("tab.tsv", "name\tid\nb c\t1\na\t0\n", 0),
        ("names.txt", "a\n\n b c \n", None),
        ("labels.json", '{"b c": "1", "a": "0"}', 0),
        ("turned.json", '{"1": "b c", "0": "a"}', 0),
        ("kinetics.json", '{"\\"b c\\"": 1, "\\"a\\"": 0}', 0),
        ("names.json", '["a", "b c"]', None),
        ("ntu.txt", "A1. a\nA2. b c\n", 1),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_class_lists_come_in_many_forms(
    tmp_path: Path, name: str, text: str, first_id: int | None, encoding: str
) -> None:
    (tmp_path / name).write_text(text, encoding=encoding)
    found = read_class_list(tmp_path / name)
    assert (found.names, found.first_id) == (("a", "b c"), first_id)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("none\n", "id,name"),
        ("id,name\n2,run\n3,jump\n", r"labels\.csv, line 2: .* 0 to 1 or 1 to 2, each once, got 2"),
        ("id,name\n0,run\n0,jump\n", r"labels\.csv, line 3: the id 0 is already used in line 2"),
        ("id,name\n0,run\n5,jump\n", r"line 3: .* got 5"),
        ("id,name\n0,run\nx,jump\n", r"line 3: .* got 'x'"),
        ("id,name\n0,run\n-1,jump\n", r"line 3: .* got '-1'"),
        ("id,name\n0,run\n1\n", r"line 3: 1 of 2 fields, name is missing"),
        ("id,name\n0,run\n1,\n", r"line 3: the name is missing"),
        ("id,name\n0,run, then jump\n", r"line 2: 3 fields .* ' then jump'; put quotes"),
        ("id,name\n0,run,jump\n", r"line 2: .* 'jump'"),
        ("id,name,name\n0,run,jump\n", r"line 1: the column name is listed twice"),
        ("id,name\n0,run\n1,run\n", r"line 3: the class 'run' is listed twice"),
        ('id,name\n0,"run\n1,jump\n', r"line 2: "),
        ("path,label\na.mp4,run\n", r"a list of videos"),
        ("1,run\n3,jump\n", r"line 2: .* got 3"),
    ],
)
def test_class_ids_that_do_not_name_each_label_once_are_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AnnotationError, match=words):
        read_class_names(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"id,name\n0,caf\xe9\n", r"labels\.csv, line 2: the byte 0xE9 is not UTF-8"),
        ("id,name\n0,a\n".encode("utf-16-le"), r"UTF-16 without a byte-order mark"),
        (b"\xff\xfei\x00d", r"labels\.csv"),
        (b"\x00\x01\x02", r"NUL"),
        (b"", r"labels\.csv"),
    ],
)
def test_a_class_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(AnnotationError, match=words):
        read_class_names(tmp_path / "labels.csv")
