"""Lists of all kinds give the same rows; spaces survive; what cannot be read is reported by line."""

import os
import shutil
from pathlib import Path

import pytest

from serve.lists.errors import AnnotationError
from tests.training.conftest import CLASSES
from tests.training.lists import read_rows
from training.data.lists.labels import OneBasedLabelsError, entries_of, index_labels, index_labels_together, label_rows
from training.data.lists.listing import detect_kind, read_listing, rows_of_split
from training.data.lists.rows import ListOptions, ListRow


def folder_rows(folder: Path) -> list[tuple[str, str, str]]:
    return sorted((row.split, row.name or "", row.path.name) for row in read_rows("folder", folder))


def touch(top: Path, *files: str) -> Path:
    for file in files:
        (top / file).parent.mkdir(parents=True, exist_ok=True)
        (top / file).touch()
    return top


def test_class_folders_name_the_classes(class_folders: Path) -> None:
    listing = read_listing(class_folders)
    rows = list(listing.rows)
    assert index_labels(rows, listing).names == CLASSES
    assert [(row.path.name, row.name) for row in rows[:2]] == [
        ("clip 0.mp4", "closing arms"),
        ("clip 1.mp4", "closing arms"),
    ]
    entries = entries_of(rows, CLASSES)
    assert [entry.label for entry in entries] == [0] * 4 + [1] * 4 + [2] * 4
    assert all(entry.path.is_file() for entry in entries)
    assert listing.notes == ()


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train", "val"),
        ("Train", "Val"),
        ("Training", "Validation"),
        ("TRAIN", "valid"),
        ("videos_train", "videos_val"),
        ("train_256", "val_256"),
        ("trainset", "devset"),
        ("training-videos", "validation videos"),
    ],
)
def test_class_folders_below_parts_keep_them(tmp_path: Path, train: str, val: str) -> None:
    touch(tmp_path, f"{train}/a class/x.MP4", f"{train}/a class/notes.txt", f"{val}/a class/y.mp4")
    touch(tmp_path, "annotations/train.csv", "replacement/z.mp4", "README.md", ".DS_Store", "train.txt")
    assert folder_rows(tmp_path) == [("train", "a class", "x.MP4"), ("val", "a class", "y.mp4")]
    notes = " ".join(read_listing(tmp_path).notes)
    assert "replacement/ is not a split and is ignored: 1 videos" in notes
    assert "annotations/ has no readable video" in notes and "notes.txt" in notes


def test_parts_may_lie_within_the_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/train/1.mp4", "a/test/2.mp4", "b/train/3.mp4", "b/test/deep/4.mp4")
    assert folder_rows(tmp_path) == [
        ("test", "a", "2.mp4"), ("test", "b", "4.mp4"), ("train", "a", "1.mp4"), ("train", "b", "3.mp4"),
    ]  # fmt: skip
    touch(tmp_path, "b/5.mp4")
    with pytest.raises(AnnotationError, match=r"b/5\.mp4 is not in one of them"):
        read_rows("folder", tmp_path)


def test_a_class_may_be_called_as_a_part_is(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "car/2.mp4", "plane/3.mp4", "training a dog/4.mp4")
    assert [name for _, name, _ in folder_rows(tmp_path)] == ["car", "plane", "train", "training a dog"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train/1.mp4", "val/2.mp4"], "train and val contain videos without class folders"),
        (["train/1.mp4"], "train contain videos without class folders"),
        (["a/1.mp4", "b/2.mp4", "3.mp4"], r"3\.mp4: the video is beside the class folders"),
        (["train/a/1.mp4", "val/a/2.mp4", "val/3.mp4"], r"val/3\.mp4: the video is beside"),
        (["train/a/1.mp4", "Training/a/2.mp4", "val/a/1.mp4"], "are the same split"),
        (
            ["UCF-101/a/1.mp4", "UCF-101/b/2.mp4"],
            r"a single folder, UCF-101, with the folders a, b; if these are the classes",
        ),
    ],
)
def test_layouts_that_are_not_known_are_refused(tmp_path: Path, files: list[str], words: str) -> None:
    with pytest.raises(AnnotationError, match=words):
        read_rows("folder", touch(tmp_path, *files))


def test_the_decoder_decides_on_unknown_suffixes(class_folders: Path, tmp_path: Path) -> None:
    clip = next((class_folders / "waving").iterdir())
    for name in ("a/1.mp4", "b/1.vob", "c/youtube_id", "d/1.divx"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(clip, tmp_path / name)
    (tmp_path / "d" / "1.divx").write_bytes(b"no video")
    (tmp_path / "a" / "1.nfo").write_text("about it")
    listing = read_listing(tmp_path)
    assert [row.name for row in listing.rows] == ["a", "b", "c"]
    notes = " | ".join(listing.notes)
    assert "d/ has no readable video: 1 x .divx (d/1.divx)" in notes
    assert "not videos: 1 x .nfo (a/1.nfo)" in notes
    assert "1 x .vob" in notes and "1 x no suffix" in notes
    assert any("d/1.divx" in line for line in listing.layout())


def test_linked_class_folders_are_followed_and_loops_are_refused(class_folders: Path, tmp_path: Path) -> None:
    for folder in class_folders.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    assert len(read_rows("folder", tmp_path)) == 12
    loop = tmp_path / "loop"
    loop.mkdir()
    (loop / "again").symlink_to(tmp_path)
    with pytest.raises(AnnotationError, match="is a symbolic link to one of its parent folders"):
        read_rows("folder", tmp_path)


def test_lists_start_from_their_own_folder_or_a_root(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("my videos/a 1.mp4 1\n\n/elsewhere/b.mp4 0\r\n")
    (tmp_path / "frames.txt").write_text("my videos/a 1 240 2\n")
    assert [row.path for row in read_rows("videos", tmp_path / "list.txt")] == [
        tmp_path / "my videos/a 1.mp4",
        Path("/elsewhere/b.mp4"),
    ]
    (row,) = read_rows("frames", tmp_path / "frames.txt", root=Path("/data"))
    assert (row.path, row.num_frames, row.label) == (Path("/data/my videos/a 1"), 240, 2)


def test_paths_of_windows_are_understood_and_drives_refused(tmp_path: Path) -> None:
    touch(tmp_path, "videos/a.mp4", "odd\\name.mp4")
    (tmp_path / "list.txt").write_bytes(b"videos\\a.mp4 1\r\nodd\\name.mp4 0\r\n")
    assert [row.path for row in read_rows("videos", tmp_path / "list.txt")] == [
        tmp_path / "videos/a.mp4",
        tmp_path / "odd\\name.mp4",
    ]
    (tmp_path / "list.txt").write_text("C:\\videos\\a.mp4 1\n")
    with pytest.raises(AnnotationError, match=r"line 1: .* a Windows path with a drive"):
        read_rows("videos", tmp_path / "list.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark", "utf-32"])
def test_lists_are_read_in_unicode_encodings(tmp_path: Path, encoding: str) -> None:
    text = "vidéos/a.mp4 0\r\nvidéos/b.mp4 1\r\n"
    data = b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16-le-mark" else text.encode(encoding)
    (tmp_path / "list.txt").write_bytes(data)
    assert [(row.path.name, row.label) for row in read_listing(tmp_path / "list.txt").rows] == [
        ("a.mp4", 0),
        ("b.mp4", 1),
    ]


def test_bytes_that_are_no_utf8_stay_only_in_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.mp4 0\n")
    with pytest.raises(AnnotationError, match=r"list.txt, line 1: the byte 0xE9 is not UTF-8"):
        read_listing(tmp_path / "list.txt")
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.mp4")).touch()
    assert len(read_listing(tmp_path / "list.txt").rows) == 1
    (tmp_path / "list.csv").write_bytes(b"path,label\na.mp4,caf\xe9\n")
    with pytest.raises(AnnotationError, match=r"list.csv, line 2: the byte 0xE9"):
        read_listing(tmp_path / "list.csv")


def test_a_csv_may_name_parts_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text('file,label,split,group\n"a, 1.mp4",waving,train,ann\nb.mp4,"a, b",validation,\n')
    first, second = read_rows("csv", path)
    assert (first.path, first.name, first.split, first.group) == (tmp_path / "a, 1.mp4", "waving", "train", "ann")
    assert (second.name, second.split) == ("a, b", "val")


@pytest.mark.parametrize(
    "text",
    [
        "path,label,subset\na.mp4,x,train\nb.mp4,y,test\n",
        "Video Path;Class Name;Partition\r\na.mp4;x;Training\r\nb.mp4;y;Testing\r\n",
        "file\taction\tsplit\na.mp4\tx\tTRAIN\nb.mp4\ty\tTEST\n",
        '"path", "label", "set"\n"a.mp4", "x", "train"\n"b.mp4", "y", "test"\n',
        ",path,label,split\n0,a.mp4,x,train\n1,b.mp4,y,test\n",
        "path,label,name,split\na.mp4,0,x,train\nb.mp4,1,y,test\n,,,\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_many_writers_say_the_same(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode(encoding))
    rows = read_listing(tmp_path / "list.csv").rows
    assert [(row.path.name, row.name, row.split) for row in rows] == [("a.mp4", "x", "train"), ("b.mp4", "y", "test")]


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("videos", "a.mp4 0\nb.mp4\n", "line 2"),
        ("frames", "a 10 0\nb ten 0\n", "line 2"),
        ("csv", "file,title\na.mp4,x\n", "one for the class"),
        ("csv", "path,label\na.mp4,\n", "line 2"),
        ("csv", "path,label,split\na.mp4,x,tuesday\n", "tuesday"),
        ("csv", "path,label,split\na.mp4,x,train\nb.mp4,x,\n", "line 3: split must be train, val or test, got ''"),
        ("csv", "path,label\na.mp4,x\nb.mp4\n", "line 3: 1 of 2 fields, label is missing"),
        ("csv", "path,label\na.mp4,x, y\n", "line 2: 3 fields .* ' y'"),
        ("csv", "path,label\na.mp4, x\n", "line 2: .* begins with a space"),
        ("csv", "path,label,note\na.mp4,x, y\n", "line 2: .* begins with a space"),
        ("csv", "path,file,label\na.mp4,b.mp4,x\n", "mean the same"),
        ("csv", "path,label,name\na.mp4,x,y\n", "line 2: .* which is the class"),
        ("csv", "path,label,name\na.mp4,0,y\nb.mp4,0,z\n", "line 3: label 0 stands for 'y' and 'z'"),
        ("csv", "path,label,name\na.mp4,0,y\nb.mp4,1,y\n", "line 3: 'y' has the label 0 and 1"),
        ("csv", "path,label,where\na.mp4,x,train\nb.mp4,x,val\n", "column where contains train, val; call it split"),
        ("csv", 'path,label\na.mp4,"x\nb.mp4,y\n', "line 2"),
        ("nosuch", "", "one of frames"),
    ],
)
def test_what_cannot_be_read_is_reported_by_line(tmp_path: Path, kind: str, text: str, words: str) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(AnnotationError, match=words):
        read_rows(kind, tmp_path / "list")


def number_rows(*labels: int) -> list[ListRow]:
    return [ListRow(path=Path(f"{i}.mp4"), label=label, location=f"line {i + 1}") for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "classes", "first_label", "expected"),
    [
        ((0, 2), "0 a\n1 b\n2 c\n", None, [0, 2]),
        ((1, 3), "1 a\n2 b\n3 c\n", None, [0, 2]),
        ((1, 2), "a\nb\nc\n", 0, [1, 2]),
        ((1, 2), "a\nb\nc\n", 1, [0, 1]),
        ((2, 2), "a\nb\nc\n", None, [2, 2]),
        ((0, 2), "1 a\n2 b\n3 c\n", 0, [0, 2]),
        ((1, 2), "a\nb\nc\n", None, r"line 1: the labels are 1 to 2 and no label is 0 \('a'\)"),
        ((1, 3), "a\nb\nc\n", None, r"line 2: the label 3 is not in the class list of 3 .* seem to start at 1"),
        ((0, 1), "1 a\n2 b\n3 c\n", None, r"line 1: the label is 0, but the ids of the class list start at 1"),
        ((0, 3), "a\nb\nc\n", None, r"1 labels are not in the class list of 3 classes \(list.txt, line 2: 3\)$"),
        ((0, 1), "a\nb\nc\n", 1, r"line 1: the label is 0, but the labels were requested to start at 1"),
    ],
)
def test_labels_count_as_the_ids_of_the_class_list_do(
    tmp_path: Path, labels: tuple[int, ...], classes: str, first_label: int | None, expected: list[int] | str
) -> None:
    (tmp_path / "classes.txt").write_text(classes)
    (tmp_path / "list.txt").write_text("".join(f"{i}.mp4 {label}\n" for i, label in enumerate(labels)))
    listing = read_listing(tmp_path / "list.txt")
    if isinstance(expected, str):
        with pytest.raises(AnnotationError, match=expected):
            entries_of(
                index_labels(listing.rows, listing, tmp_path / "classes.txt", first_label=first_label).rows, "abc"
            )
    else:
        read = index_labels(listing.rows, listing, tmp_path / "classes.txt", first_label=first_label)
        assert [row.label for row in read.rows] == expected


def test_lists_of_one_set_count_alike(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 1\nc.mp4 2\n")
    (tmp_path / "val.txt").write_text("d.mp4 1\ne.mp4 2\n")
    listings = [read_listing(tmp_path / name) for name in ("train.txt", "val.txt")]
    _, second = index_labels_together(listings, CLASSES, first_label=None)
    assert [row.label for row in second.rows] == [1, 2]
    with pytest.raises(OneBasedLabelsError):
        index_labels_together(listings[1:], CLASSES, first_label=None)


def test_numbers_in_a_table_are_ids_under_a_class_list_and_no_names_without_one(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.mp4,0\nb.mp4,2\n")
    listing = read_listing(tmp_path / "list.csv")
    assert [row.label for row in index_labels(listing.rows, listing, CLASSES).rows] == [0, 2]
    with pytest.raises(AnnotationError, match=r"list.csv, line 2: the classes are numbers, such as 0"):
        index_labels(listing.rows, listing)
    with pytest.raises(AnnotationError, match="classes are numbers"):
        folder = read_listing(touch(tmp_path / "folder", "0/a.mp4", "1/b.mp4"))
        index_labels(folder.rows, folder)


@pytest.mark.parametrize(
    ("one", "other"), [("caf\u00e9", "cafe\u0301"), ("Archery", "archery"), ("air_drumming", "air drumming")]
)
def test_names_that_read_the_same_are_refused(tmp_path: Path, one: str, other: str) -> None:
    (tmp_path / "list.csv").write_text(f"path,label\na.mp4,{one}\nb.mp4,{other}\n", encoding="utf-8")
    listing = read_listing(tmp_path / "list.csv")
    with pytest.raises(AnnotationError, match=r"differ only in case, separators or Unicode form \(list.csv, line"):
        index_labels(listing.rows, listing)
    assert index_labels(listing.rows, listing, (one, other)).names == (one, other)


def test_an_option_that_does_not_apply_is_refused(class_folders: Path, tmp_path: Path) -> None:
    listing = read_listing(class_folders)
    with pytest.raises(AnnotationError, match="--first-label is for lists with numeric labels"):
        index_labels(listing.rows, listing, first_label=1)
    with pytest.raises(AnnotationError, match="has no splits"):
        rows_of_split(listing, "test", option="--split")
    with pytest.raises(AnnotationError, match="--fold can be used only with"):
        read_listing(class_folders, ListOptions(fold="1"))
    with pytest.raises(AnnotationError, match="--root cannot be used with a folder of class folders"):
        read_listing(class_folders, ListOptions(root=tmp_path))


def test_labels_outside_the_class_list_are_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 3\n")
    listing = read_listing(tmp_path / "list.txt")
    with pytest.raises(AnnotationError, match=r"list.txt, line 2: 3"):
        entries_of(index_labels(listing.rows, listing, CLASSES).rows, CLASSES)
    with pytest.raises(AnnotationError, match="give the class names"):
        index_labels(listing.rows, listing)


def test_names_the_class_list_lacks_have_no_label(class_folders: Path) -> None:
    assert {row.label for row in label_rows(read_rows("folder", class_folders), ["waving"])} == {None, 0}


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.csv", "path,label\n", "csv"),
        ("a.CSV", "Path;Label\n", "csv"),
        ("a.tsv", "path\tlabel\n", "csv"),
        ("a.txt", "path,label\n", "csv"),
        ("a.csv", "videos/a.mp4 3\n", "videos"),
        ("a.csv", "videos/a.mp4,3\n", "videos"),
        ("a.txt", "folder of frames 120 3\n", "frames"),
        ("a.txt", "folder\t120\t3\n", "frames"),
        ("a.txt", "my video.mp4 3\n", "videos"),
        ("a.txt", "clip 12 3\n", "videos"),  # beside a file `clip 12`
        ("a-{000..003}.tar", None, "shards"),
    ],
)
def test_the_kind_is_found_out(tmp_path: Path, name: str, text: str | None, kind: str) -> None:
    (tmp_path / "clip 12").touch()
    if text is not None:
        (tmp_path / name).write_text(text)
    assert detect_kind(tmp_path / name) == kind
    assert detect_kind(tmp_path) == "folder"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("trainlist01.txt", "A/v_A_g01_c01.avi 1\n", "--source ucf101"),
        ("brush_hair_test_split1.txt", "a.avi 1\n", "--source hmdb51"),
        ("train.json", "[]", "--source ssv2"),
        ("train.csv", "label,youtube_id,time_start,time_end,split\n", "--source kinetics"),
        ("list.txt", "", "empty"),
        ("list.csv", "title,about\n", "one for the class|column for the path"),
        ("list.txt", "a.mp4 archery\n", "header path,label"),
    ],
)
def test_published_lists_are_read_by_name_alone(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match=words):
        read_listing(tmp_path / name)


def test_a_split_file_of_hmdb51_is_never_a_list_of_classes(tmp_path: Path) -> None:
    (tmp_path / "renamed.txt").write_text("April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \nx_u_cm_np2_fr_med_3.avi 2 \n")
    with pytest.raises(AnnotationError, match="split file of HMDB51"):
        read_listing(tmp_path / "renamed.txt")
