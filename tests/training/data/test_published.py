"""Data sets as they are published: a small copy of each real layout, and what only looks like one."""

import json
from pathlib import Path

import pytest

from serve.lists.errors import AnnotationError
from training.data.lists.labels import entries_of, index_labels
from training.data.lists.listing import read_listing, rows_of_split
from training.data.lists.rows import Listing, ListOptions


def write(top: Path, **files: str) -> Path:
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


def touch(top: Path, *files: str) -> Path:
    return write(top, **dict.fromkeys(files, ""))


def shown(listing: Listing, part: str, names: tuple[str, ...] | None = None) -> list[tuple[str, str]]:
    """(file, class) of the videos of a part."""
    read = index_labels(rows_of_split(listing, part, option="--split"), listing, names)
    return sorted((entry.path.name, read.names[entry.label]) for entry in entries_of(read.rows, read.names))


@pytest.fixture
def ucf101(tmp_path: Path) -> Path:
    train = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1", "YoYo/v_YoYo_g09_c02.avi 3"]
    test = ["HandstandPushups/v_HandStandPushups_g01_c01.avi", "YoYo/v_YoYo_g01_c01.avi"]
    write(
        tmp_path / "ucfTrainTestlist",
        **{
            "classInd.txt": "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 YoYo\r\n",
            "trainlist01.txt": "".join(f"{line}\r\n" for line in train),
            "testlist01.txt": "".join(f"{line}\r\n" for line in test),
        },
    )
    return touch(tmp_path, *(f"UCF-101/{line.split()[0]}" for line in (*train, *test)))


def test_ucf101(ucf101: Path) -> None:
    listing = read_listing(ucf101, ListOptions(kind="ucf101", fold="1"))
    assert listing.class_names == ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
    assert listing.splits == ("train", "test")
    assert shown(listing, "train") == [
        ("v_ApplyEyeMakeup_g08_c01.avi", "ApplyEyeMakeup"), ("v_YoYo_g09_c02.avi", "YoYo"),
    ]  # fmt: skip
    assert shown(listing, "test", ("makeup", "push-ups", "yo-yo")) == [
        ("v_HandStandPushups_g01_c01.avi", "push-ups"), ("v_YoYo_g01_c01.avi", "yo-yo"),
    ]  # fmt: skip
    assert all(row.path.is_file() and row.group for row in listing.rows)
    one = read_listing(ucf101 / "ucfTrainTestlist" / "testlist01.txt", ListOptions(kind="ucf101"))
    assert shown(one, "test") == shown(listing, "test")
    away = ListOptions(kind="ucf101", fold="1", root=ucf101 / "UCF-101")
    assert shown(read_listing(ucf101 / "ucfTrainTestlist", away), "test") == shown(listing, "test")


@pytest.mark.parametrize(
    ("file", "text", "fold", "words"),
    [
        ("trainlist01.txt", "YoYo/v_YoYo_g09_c02.avi 2\n", "1", "the id of YoYo is 2, but 3 in classInd.txt"),
        ("trainlist01.txt", "YoYo/yoyo.avi 3\n", "1", "trainlist01.txt, line 1: expected"),
        ("testlist01.txt", "Yo/v_Yo_g09_c02.avi\n", "1", "has no class 'Yo'"),
        ("testlist01.txt", "YoYo/v_YoYo_g01_c01.avi\n", "", "choose one of 1, 2, 3 with --fold"),
        ("testlist01.txt", "YoYo/v_YoYo_g01_c01.avi\n", "2", "trainlist02.txt and testlist02.txt were not found"),
    ],
)
def test_what_only_looks_like_ucf101_is_refused(ucf101: Path, file: str, text: str, fold: str, words: str) -> None:
    (ucf101 / "ucfTrainTestlist" / file).write_text(text)
    with pytest.raises(AnnotationError, match=words):
        read_listing(ucf101, ListOptions(kind="ucf101", fold=fold))


def test_ucf101_without_its_videos_or_class_ids(ucf101: Path, tmp_path: Path) -> None:
    with pytest.raises(
        AnnotationError, match=r"none of the listed videos .* give the folder of the videos with --root"
    ):
        read_listing(ucf101, ListOptions(kind="ucf101", fold="1", root=tmp_path / "nowhere"))
    (ucf101 / "UCF-101/YoYo/v_YoYo_g01_c01.avi").unlink()
    (note,) = read_listing(ucf101, ListOptions(kind="ucf101", fold="1")).notes
    assert "1 of 4 videos do not exist" in note
    (ucf101 / "ucfTrainTestlist" / "classInd.txt").unlink()
    with pytest.raises(AnnotationError, match=r"classInd\.txt is missing"):
        read_listing(ucf101, ListOptions(kind="ucf101", fold="1"))


def test_hmdb51(tmp_path: Path) -> None:
    clips = [f"April_09_brush_hair_u_nm_np1_ba_goo_{i}.avi" for i in range(3)]
    turns = ["(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi", "Acrobacias_cartwheel_f_cm_np1_ba_bad_8.avi"]
    write(
        tmp_path / "testTrainMulti_7030_splits",
        **{
            "brush_hair_test_split1.txt": "".join(f"{clip} {i} \n" for i, clip in enumerate(clips)),
            "cartwheel_test_split1.txt": "".join(f"{clip} {i + 1} \n" for i, clip in enumerate(turns)),
            "brush_hair_test_split2.txt": f"{clips[0]} 1 \n",
        },
    )
    touch(tmp_path / "hmdb51_org", *(f"brush_hair/{clip}" for clip in clips), *(f"cartwheel/{clip}" for clip in turns))
    listing = read_listing(tmp_path, ListOptions(kind="hmdb51", fold="1"))
    assert listing.class_names == ("brush hair", "cartwheel")
    assert shown(listing, "train") == [(turns[0], "cartwheel"), (clips[1], "brush hair")]
    assert shown(listing, "test") == [(turns[1], "cartwheel"), (clips[2], "brush hair")]
    assert listing.notes == ("1 videos are unused in this fold",)
    with pytest.raises(AnnotationError, match="choose one of 1, 2, 3"):
        read_listing(tmp_path, ListOptions(kind="hmdb51"))
    with pytest.raises(AnnotationError, match="belongs to fold 1, but --fold is 2"):
        file = tmp_path / "testTrainMulti_7030_splits" / "cartwheel_test_split1.txt"
        read_listing(file, ListOptions(kind="hmdb51", fold="2"))
    write(tmp_path / "testTrainMulti_7030_splits", **{"cartwheel_test_split1.txt": f"{turns[0]} 3 \n"})
    with pytest.raises(AnnotationError, match=r"cartwheel_test_split1.txt, line 1: .* 0, 1 or 2"):
        read_listing(tmp_path, ListOptions(kind="hmdb51", fold="1"))


HEADER = "label,youtube_id,time_start,time_end,split"


@pytest.mark.parametrize("folders", [True, False])
def test_kinetics(tmp_path: Path, folders: bool) -> None:
    write(
        tmp_path / "annotations",
        **{
            "train.csv": f"{HEADER},is_cc\nabseiling,3vBb2lPFVLg,12,22,train,0\nair drumming,-_hbPLsZvvo,5,15,train,\n",
            "val.csv": f'{HEADER}\n"abseiling",0wR5jVB-WPk,417,427,validate\nair drumming,gone0000000,0,10,validate\n',
            "test.csv": "youtube_id,time_start,time_end,split\n00000000000,1,11,test\n",
        },
    )
    below = {"train": ("abseiling/", "air_drumming/"), "val": ("abseiling/",)} if folders else {}
    first, second = below.get("train", ("", ""))
    touch(tmp_path / "train", f"{first}3vBb2lPFVLg_000012_000022.mp4", f"{second}-_hbPLsZvvo_000005_000015.mkv")
    touch(tmp_path / "val", f"{below.get('val', ('',))[0]}0wR5jVB-WPk_000417_000427.mp4")
    touch(tmp_path / "replacement", "zzzzzzzzzzz_000001_000011.mp4")
    listing = read_listing(tmp_path, ListOptions(kind="kinetics"))
    assert listing.class_names == ("abseiling", "air drumming")
    assert shown(listing, "train") == [
        ("-_hbPLsZvvo_000005_000015.mkv", "air drumming"), ("3vBb2lPFVLg_000012_000022.mp4", "abseiling"),
    ]  # fmt: skip
    assert [name for name, _ in shown(listing, "val")] == [
        "0wR5jVB-WPk_000417_000427.mp4",
        "gone0000000_000000_000010.mp4",
    ]
    notes = " | ".join(listing.notes)
    assert "test.csv has 1 videos without a label" in notes
    assert "1 of 4 videos do not exist" in notes
    assert "1 videos below" in notes and "are in no table" in notes
    one = ListOptions(kind="kinetics", root=tmp_path / "val")
    assert len(read_listing(tmp_path / "annotations" / "val.csv", one).rows) == 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("abseiling,3vBb2lPFVLg,12,22,tuesday", "line 2: split must be"),
        ("abseiling,3vBb2lPFVLg,22,12,train", "line 2: .* time_end must be greater than time_start"),
        ("abseiling,3vBb2lPFVLg,x,12,train", "line 2: time_start must be in seconds"),
        ("abseiling, then falling,3vBb2lPFVLg,12,22,train", "line 2: 6 fields"),
        ("abseiling,3vBb2lPFVLg,12,22,train", "none of the listed videos"),
    ],
)
def test_what_only_looks_like_kinetics_is_refused(tmp_path: Path, row: str, words: str) -> None:
    write(tmp_path, **{"train.csv": f"{HEADER}\n{row}\n"})
    with pytest.raises(AnnotationError, match=words):
        read_listing(tmp_path / "train.csv", ListOptions(kind="kinetics"))


@pytest.mark.parametrize("prefix", ["", "something-something-v2-"])
def test_something_something(tmp_path: Path, prefix: str) -> None:
    near, down = "Approaching something with your camera", "Putting something, something and something on the table"
    labels = {near: "0", down: "1"}
    train = [
        {"id": "78687", "label": "putting a, b and c on the table", "placeholders": ["a", "b", "c"],
         "template": "Putting [something], [something] and [something] on the table"},
        {"id": "42326", "label": "approaching x", "template": "Approaching [something] with your camera"},
    ]  # fmt: skip
    write(
        tmp_path / "labels",
        **{
            f"{prefix}labels.json": json.dumps(labels),
            f"{prefix}train.json": json.dumps(train),
            f"{prefix}validation.json": json.dumps([{**train[1], "id": "7"}]),
            f"{prefix}test.json": json.dumps([{"id": "1420"}]),
        },
    )
    touch(tmp_path / "20bn-something-something-v2", "78687.webm", "42326.webm", "7.webm", "1420.webm")
    listing = read_listing(tmp_path, ListOptions(kind="ssv2"))
    assert listing.class_names == (near, down)
    assert shown(listing, "train") == [("42326.webm", near), ("78687.webm", down)]
    assert shown(listing, "val") == [("7.webm", near)]
    write(tmp_path / "labels", **{f"{prefix}train.json": json.dumps([{"id": "1", "template": "Eating [something]"}])})
    with pytest.raises(AnnotationError, match=r"train.json, item 0: labels.json has no class 'Eating something'"):
        read_listing(tmp_path, ListOptions(kind="ssv2"))
    write(tmp_path / "labels", **{f"{prefix}train.json": json.dumps({"id": "1"})})
    with pytest.raises(AnnotationError, match="a list of objects"):
        read_listing(tmp_path, ListOptions(kind="ssv2"))


@pytest.mark.parametrize(
    ("fold", "action", "train"),
    [
        ("xsub", 60, ["S001C001P001R001A001_rgb.avi", "S002C002P001R002A060_rgb.avi"]),
        ("xview", 60, ["S001C003P003R001A001_rgb.avi", "S002C002P001R002A060_rgb.avi"]),
        ("xset", 120, ["S002C002P001R002A120_rgb.avi"]),
    ],
)
def test_ntu(tmp_path: Path, fold: str, action: int, train: list[str]) -> None:
    names = [
        "S001C001P001R001A001_rgb.avi", "S001C003P003R001A001_rgb.avi", f"S002C002P001R002A{action:03d}_rgb.avi",
        "S001C001P003R001A002_rgb.avi", "S001C001P001R001A001_depth.avi",
    ]  # fmt: skip
    touch(tmp_path / "nturgb+d_rgb", *names)
    classes = tuple(f"action {number}" for number in range(1, action + 1))
    listing = read_listing(tmp_path, ListOptions(kind="ntu", fold=fold))
    assert [name for name, _ in shown(listing, "train", classes)] == train
    assert dict(shown(listing, "train", classes))[f"S002C002P001R002A{action:03d}_rgb.avi"] == f"action {action}"
    assert listing.notes == ("1 depth or infrared videos are ignored",)
    with pytest.raises(AnnotationError, match="give the class names"):
        index_labels(listing.rows, listing)
    with pytest.raises(AnnotationError, match="choose one of xsub, xview, xset"):
        read_listing(tmp_path, ListOptions(kind="ntu"))
    with pytest.raises(AnnotationError, match=f"NTU RGB\\+D {action} has no protocol"):
        read_listing(tmp_path, ListOptions(kind="ntu", fold="xset" if action == 60 else "xview"))
    touch(tmp_path, "other.mp4")
    with pytest.raises(AnnotationError, match=r"1 file names are invalid, the first is other\.mp4"):
        read_listing(tmp_path, ListOptions(kind="ntu", fold=fold))
