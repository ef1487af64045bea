"""`training check` finds what would break training, and says what it saw."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.training.conftest import CLASSES, write_clip
from tests.training.lists import read_rows
from training.__main__ import app
from training.data.checking.contact_sheet import FRAME_SIZE, GAP, TEXT_WIDTH
from training.data.lists.labels import entries_of
from training.data.shards.writing import write_shards

SMALL = ("--image-size", "32", "--num-frames", "4", "--workers", "1")


def check(*arguments: object, sheet: Path | None) -> tuple[int, dict[str, Any]]:
    drawn = [] if sheet is None else ["--sheet", str(sheet)]
    result = CliRunner().invoke(app, ["check", *map(str, arguments), *SMALL, *drawn])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def videos(class_folders: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(class_folders, tmp_path / "videos"))


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "classes.csv"
    path.write_text("id,name\n" + "".join(f"{i},{name}\n" for i, name in enumerate(CLASSES)))
    return path


def test_a_good_set_is_fit_and_drawn(videos: Path, tmp_path: Path) -> None:
    status, found = check(videos, "--samples", 6, sheet=tmp_path / "sheet.png")
    assert status == 0
    assert found["is_fit"]
    assert found["classes"] == {str(videos): dict.fromkeys(CLASSES, 4)}
    assert found["findings"] == {}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (TEXT_WIDTH + 4 * (FRAME_SIZE + GAP) + GAP, 6 * (FRAME_SIZE + GAP) + GAP)
        first = np.asarray(sheet)[GAP : GAP + FRAME_SIZE, TEXT_WIDTH : TEXT_WIDTH + FRAME_SIZE]
    assert first.mean() < 250  # a picture, not the paper


def test_the_sheet_lies_beside_the_first_list(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert check(videos, "--samples", 1, sheet=None)[0] == 0
    assert (videos.parent / "contact_sheet.png").is_file()
    assert not list(elsewhere.iterdir())


def test_the_same_content_is_found_under_two_labels_and_in_two_lists(videos: Path, tmp_path: Path) -> None:
    shutil.copy(videos / "waving" / "clip 0.mp4", videos / "opening arms" / "wrong.mp4")
    other = tmp_path / "val"
    shutil.copytree(videos / "waving", other / "waving")
    status, found = check(videos, other, sheet=tmp_path / "sheet.png")
    assert status == 0
    (finding,) = found["findings"]["same_content_other_label"]
    assert "wrong.mp4" in finding
    assert len(found["findings"]["same_content_in_several_lists"]) == 4
    assert sorted(found["findings"]["class_missing_in_list"]) == [
        f"closing arms: not in {other}",
        f"opening arms: not in {other}",
    ]


def test_what_breaks_training_fails_the_check(videos: Path, classes: Path, tmp_path: Path) -> None:
    (videos / "broken.mp4").write_bytes(b"no video" * 100)
    write_clip(videos / "short.mp4", first=9, num_frames=3)
    listing = videos / "list.txt"
    listing.write_text("waving/clip 0.mp4 2\nbroken.mp4 0\ngone.mp4 1\nshort.mp4 1\nwaving/clip 1.mp4 3\n")
    status, found = check(listing, "--classes", classes, sheet=tmp_path / "sheet.png")
    assert status == 1
    assert [item.split(":")[0] for item in found["findings"]["unreadable"]] == ["list.txt, line 2", "list.txt, line 3"]
    assert found["findings"]["short"] == [f"list.txt, line 4: {videos / 'short.mp4'}: 3 frames for a clip of 4"]
    assert found["findings"]["label_outside_classes"] == ["list.txt, line 5: 3"]
    assert len(found["breaking"]) == 2  # the label, and two of five entries
    assert found["classes"] == {str(listing): {"closing arms": 1, "opening arms": 2, "waving": 1}}
    assert found["findings"].keys() == {"unreadable", "short", "label_outside_classes"}


def test_classes_that_no_list_shows_are_named(videos: Path, classes: Path, tmp_path: Path) -> None:
    shutil.rmtree(videos / "opening arms")
    status, found = check(videos, "--classes", classes, "--samples", 0, sheet=tmp_path / "sheet.png")
    assert status == 0
    assert found["findings"] == {"class_without_videos": ["opening arms"]}
    assert found["contact_sheet"] is None


def test_missing_pictures_and_miscounted_folders_are_found(videos: Path, classes: Path, tmp_path: Path) -> None:
    for name, count in (("whole", 8), ("holes", 8), ("more", 9)):
        (tmp_path / name).mkdir()
        for number in range(1, count + 1):
            Image.new("RGB", (40, 32), (number, 50, len(name))).save(tmp_path / name / f"img_{number:05d}.jpg")
    (tmp_path / "holes" / "img_00004.jpg").unlink()
    (tmp_path / "list.txt").write_text("whole 8 0\nholes 8 1\nmore 8 2\n")
    status, found = check(tmp_path / "list.txt", "--classes", classes, sheet=tmp_path / "sheet.png")
    assert status == 1
    holes, more = found["findings"]["unreadable"]
    assert "img_00004.jpg is missing" in holes
    assert "the list says 8 frames, the folder contains 9" in more


def test_shards_are_checked_too(class_folders: Path, tmp_path: Path) -> None:
    entries = entries_of(read_rows("folder", class_folders), CLASSES)
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    entries.append(type(entries[0])(path=tmp_path / "bad.mp4", label=0))
    write_shards(entries, CLASSES, tmp_path / "shards", samples_per_shard=5, seed=0)
    status, found = check(tmp_path / "shards", "--max-bad-share", "0.2", sheet=tmp_path / "sheet.png")
    assert status == 0
    assert found["entries"] == 13
    assert len(found["findings"]["unreadable"]) == 1
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize("text", ["a.mp4\n", "", "a.mp4 0\n"])
def test_lists_that_cannot_be_used_fail_the_check(text: str, classes: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    status, found = check(tmp_path / "list.txt", "--classes", classes, sheet=tmp_path / "sheet.png")
    assert status == 1
    assert found["breaking"]
