"""Lists of all kinds give the same rows; spaces survive; what cannot be read is told by line."""

from pathlib import Path

import pytest

from tests.training.conftest import CLASSES
from training.data.lists.annotations import AnnotationError
from training.data.lists.listings import class_names, entries_of, kind_of, labelled, read_rows


def test_class_folders_name_the_classes(class_folders: Path) -> None:
    rows = read_rows("folder", class_folders)
    assert class_names(rows, None) == CLASSES
    assert [(row.path.name, row.name) for row in rows[:2]] == [
        ("clip 0.mp4", "closing arms"),
        ("clip 1.mp4", "closing arms"),
    ]
    entries = entries_of(rows, CLASSES)
    assert [entry.label for entry in entries] == [0] * 4 + [1] * 4 + [2] * 4
    assert all(entry.path.is_file() for entry in entries)


def test_class_folders_below_parts_keep_them(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        (tmp_path / part / "a class").mkdir(parents=True)
        (tmp_path / part / "a class" / "x.MP4").touch()
        (tmp_path / part / "a class" / "notes.txt").touch()
    assert [(row.split, row.name) for row in read_rows("folder", tmp_path)] == [
        ("train", "a class"),
        ("val", "a class"),
    ]


def test_lists_start_from_their_own_folder_or_a_root(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("my videos/a 1.mp4 1\n\n/elsewhere/b.mp4 0\r\n")
    (tmp_path / "frames.txt").write_text("my videos/a 1 240 2\n")
    assert [row.path for row in read_rows("videos", tmp_path / "list.txt")] == [
        tmp_path / "my videos/a 1.mp4",
        Path("/elsewhere/b.mp4"),
    ]
    (row,) = read_rows("frames", tmp_path / "frames.txt", root=Path("/data"))
    assert (row.path, row.num_frames, row.label) == (Path("/data/my videos/a 1"), 240, 2)


def test_a_csv_may_name_parts_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text('file,label,split,group\n"a, 1.mp4",waving,train,ann\nb.mp4,"a, b",validation,\n')
    first, second = read_rows("csv", path)
    assert (first.path, first.name, first.split, first.group) == (tmp_path / "a, 1.mp4", "waving", "train", "ann")
    assert (second.name, second.split) == ("a, b", "val")


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("videos", "a.mp4 0\nb.mp4\n", "line 2"),
        ("frames", "a 10 0\nb ten 0\n", "line 2"),
        ("csv", "file,title\na.mp4,x\n", "label or name or class"),
        ("csv", "path,label\na.mp4,\n", "line 2"),
        ("csv", "path,label,split\na.mp4,x,tuesday\n", "tuesday"),
        ("nosuch", "", "one of frames"),
    ],
)
def test_what_cannot_be_read_is_told_by_line(tmp_path: Path, kind: str, text: str, words: str) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(AnnotationError, match=words):
        read_rows(kind, tmp_path / "list")


def test_labels_outside_the_class_list_are_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 3\n")
    rows = read_rows("videos", tmp_path / "list.txt")
    with pytest.raises(AnnotationError, match=r"list.txt, line 2: 3"):
        entries_of(rows, CLASSES)
    with pytest.raises(AnnotationError, match="need the class names"):
        class_names(rows, None)


def test_names_the_class_list_lacks_have_no_label(class_folders: Path) -> None:
    assert {row.label for row in labelled(read_rows("folder", class_folders), ["waving"])} == {None, 0}


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.csv", "path,label\n", "csv"),
        ("a.txt", "folder of frames 120 3\n", "frames"),
        ("a.txt", "my video.mp4 3\n", "videos"),
        ("a.txt", "clip 12 3\n", "videos"),  # beside a file `clip 12`
        ("a-{000..003}.tar", None, "shards"),
    ],
)
def test_the_kind_is_found_out(tmp_path: Path, name: str, text: str | None, kind: str) -> None:
    (tmp_path / "clip 12").touch()
    if text is not None:
        (tmp_path / name).write_text(text)
    assert kind_of(tmp_path / name) == kind
    assert kind_of(tmp_path) == "folder"
