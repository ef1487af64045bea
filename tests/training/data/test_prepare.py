"""Making a data set: lists of both systems, runs that are killed go on, odd files are reported and stop nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from serve.video.limits import DecodeSettings
from tests.serve.video.outcomes import odd_files
from tests.shared_data import ODD, VIDEOS, needs_shared
from tests.synthetic_video import index_of, make_video
from tests.training.conftest import CLASSES, write_clip
from tests.training.lists import read_rows
from tests.waiting import eventually
from training.__main__ import app
from training.config import ConfigError
from training.data.digests import find_near_duplicates
from training.data.lists.class_lists import read_class_names
from training.data.lists.labels import entries_of

ROOT = Path(__file__).resolve().parents[3]


def prepare(videos: Path, out: Path, *options: str) -> dict[str, int]:
    result = CliRunner().invoke(app, ["prepare", str(videos), str(out), "--workers", "1", *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_both_lists_the_class_names_and_the_frames_are_written(class_folders: Path, tmp_path: Path) -> None:
    counts = prepare(class_folders, tmp_path, "--val", "0.25", "--short-side", "24")
    assert counts == {
        "videos": 12,
        "prepared": 12,
        "kept": 0,
        "failed": 0,
        "classes": 3,
        "independent": 12,
        "copies": 0,
        "train": 9,
        "val": 3,
        "test": 0,
    }
    assert read_class_names(tmp_path / "classes.csv") == list(CLASSES)
    frames = entries_of(read_rows("frames", tmp_path / "frames_train.txt"), CLASSES)
    videos = entries_of(read_rows("videos", tmp_path / "videos_train.txt"), CLASSES)
    assert [entry.label for entry in frames] == [entry.label for entry in videos] == [0] * 3 + [1] * 3 + [2] * 3
    for folder, video in zip(frames, videos, strict=True):
        assert video.path.is_file()
        assert folder.path.name == video.path.name
        pictures = sorted(folder.path.glob("img_*.jpg"))
        assert [path.name for path in pictures] == [f"img_{i:05d}.jpg" for i in range(1, (folder.num_frames or 0) + 1)]
        first = 4 * folder.label + int(video.path.stem[-1])
        with Image.open(pictures[-1]) as picture:
            assert picture.size == (32, 24)
            level = picture.convert("L").getpixel((16, 20))
        assert index_of([level]) == (first + len(pictures) - 1) % 31  # type: ignore[arg-type]


def test_a_second_run_does_only_what_is_missing(class_folders: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(class_folders, videos)
    prepare(videos, out)
    lists = {path.name: path.read_text() for path in out.glob("*.txt")}
    shutil.rmtree(out / "frames" / "waving" / "clip 2.mp4")
    write_clip(videos / "waving" / "clip 3.mp4", first=3)
    again = prepare(videos, out)
    assert (again["prepared"], again["kept"]) == (2, 10)
    assert lists.keys() == {path.name for path in out.glob("*.txt")}
    assert prepare(videos, out, "--quality", "50")["prepared"] == 12  # other pictures were asked for


def test_a_run_that_is_killed_goes_on(class_folders: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "prepare", str(class_folders), str(tmp_path), "--workers", "1"]
    run = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    assert eventually(lambda: len(list(tmp_path.glob("frames/*/*/source.json"))) >= 3)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("frames/*/*/source.json")}
    assert done
    for note in done:  # what is in place is whole
        assert len(list(note.parent.glob("img_*.jpg"))) == json.loads(note.read_text())["num_frames"]
    counts = prepare(class_folders, tmp_path)
    assert counts["kept"] == len(done)
    assert counts["prepared"] == 12 - len(done)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert not (tmp_path / ".partial").exists()


@needs_shared
def test_odd_files_are_reported_and_stop_nothing(tmp_path: Path) -> None:
    outcomes = {file: expected for file, expected in odd_files() if not file.startswith(("uhd", "half_hour"))}
    for file in outcomes:
        target = tmp_path / "videos" / "a class" / (file if Path(file).suffix != ".jpg" else f"{file}.mp4")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(ODD / file)
    (tmp_path / "videos" / "a class" / "line\nbreak.mp4").write_bytes((VIDEOS / "bowling_mesh.mp4").read_bytes())
    counts = prepare(tmp_path / "videos", tmp_path / "out", "--short-side", "64", "--deadline", "120")
    failures = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    failed = {Path(item["path"]).name: item["reason"] for item in failures}
    assert all(failed.values())
    assert {file for file, owed in outcomes.items() if owed == "error"} <= failed.keys()
    assert not {file for file, owed in outcomes.items() if owed == "decodes"} & failed.keys()
    assert failed["line\nbreak.mp4"] == "the file name contains a line break"
    assert counts["failed"] == len(failed)
    again = prepare(tmp_path / "videos", tmp_path / "out", "--short-side", "64")
    assert (again["prepared"], again["failed"]) == (0, len(failed))


def test_an_index_gives_labels_parts_and_groups(class_folders: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    rows = ["file,label,split"]
    for i, part in enumerate(("train", "val", "test", "train")):
        shutil.copy(class_folders / "waving" / f"clip {i}.mp4", videos / f"{i}, x.mp4")
        rows.append(f'"{i}, x.mp4",waving,{part}')
    (videos / "index.csv").write_text("\n".join([*rows, "gone.mp4,waving,train", ""]))
    counts = prepare(videos, tmp_path / "out")
    assert (counts["train"], counts["val"], counts["test"], counts["failed"]) == (2, 1, 1, 1)
    assert "gone.mp4" in (tmp_path / "out" / "failures.jsonl").read_text()
    lists_only = prepare(videos, tmp_path / "lists", "--lists-only")
    assert lists_only["train"] == 3
    assert not list(tmp_path.glob("lists/frames*"))


def test_lists_lead_to_the_videos_from_behind_a_link_and_odd_names(class_folders: Path, tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "deep")
    odd = tmp_path / "videos" / os.fsdecode(b"caf\xe9 class")
    odd.mkdir(parents=True)
    shutil.copy(class_folders / "waving" / "clip 0.mp4", odd / "a.mp4")
    shutil.copytree(class_folders / "waving", tmp_path / "videos" / "waving")
    counts = prepare(tmp_path / "videos", tmp_path / "out")
    assert (counts["failed"], counts["classes"]) == (1, 2)  # a path that is no UTF-8 cannot stand in a list
    names = read_class_names(tmp_path / "out" / "classes.csv")
    assert names == ["caf\\xe9 class", "waving"]
    assert all(
        entry.path.is_file() for entry in entries_of(read_rows("videos", tmp_path / "out/videos_train.txt"), names)
    )


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_copies_and_pieces_of_one_video_stay_in_one_part(class_folders: Path, tmp_path: Path, seed: str) -> None:
    clips = sorted((class_folders / "waving").iterdir())
    for name in ("a", "b"):
        (tmp_path / "videos" / name).mkdir(parents=True)
    for i, clip in enumerate(clips):
        shutil.copy(clip, tmp_path / "videos" / "a" / f"holiday_part{i}.mp4")
        shutil.copy(clips[0], tmp_path / "videos" / "b" / f"{i}.mp4")  # copies of the first piece
    shutil.copy(class_folders / "opening arms" / "clip 0.mp4", tmp_path / "videos" / "a" / "other.mp4")
    shutil.copy(class_folders / "opening arms" / "clip 1.mp4", tmp_path / "videos" / "b" / "other.mp4")
    counts = prepare(tmp_path / "videos", tmp_path / "out", "--lists-only", "--val", "0.5", "--seed", seed)
    assert (counts["independent"], counts["copies"]) == (3, 4)
    for part in ("train", "val"):
        listed = tmp_path / "out" / f"videos_{part}.txt"
        names = (
            {Path(line.rsplit(" ", 1)[0]).name for line in listed.read_text().splitlines()}
            if listed.exists()
            else set()
        )
        assert len(names & {f"holiday_part{i}.mp4" for i in range(4)}) in (0, 4)


def test_near_duplicates_are_found_by_their_pictures(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scenes = [cv2.resize(random.integers(0, 256, (6, 8, 3), dtype=np.uint8), (96, 72)) for _ in range(3)]
    settings = DecodeSettings.model_validate({"threads": 1})
    paths = []
    for name, scene, size, codec in (
        ("a.mp4", 0, (96, 72), "libx264"), ("b.mp4", 1, (96, 72), "libx264"), ("a small.avi", 0, (64, 48), "mpeg4"),
        ("c.mp4", 2, (96, 72), "libx264"), ("c again.mp4", 2, (80, 60), "libx264"),
    ):  # fmt: skip
        frames = [cv2.resize(np.roll(scenes[scene], 2 * i, axis=1), size) for i in range(12)]
        paths.append(
            make_video(tmp_path / name, num_frames=12, width=size[0], height=size[1], codec=codec, frames=iter(frames))
        )
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    paths.append(tmp_path / "broken.mp4")
    assert sorted(find_near_duplicates(paths, settings=settings, workers=1)) == [(0, 2), (3, 4)]


def test_nothing_to_prepare_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"neither a video in a class folder nor an index\.csv"):
        prepare(tmp_path / "empty", tmp_path / "out")
