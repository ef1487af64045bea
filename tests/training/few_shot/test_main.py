"""The command `few-shot`: table, document, lists of both formats, and a server that fits the same prototypes."""

import csv
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from serve.feedback.folder import Correction, FeedbackFolder
from tests.models import tiny_checkpoint, tiny_xclip
from tests.running_server import ROOT, running_server
from tests.small_repository import shifted
from tests.training.conftest import CLASSES, write_clip
from tests.training.lists import read_rows
from tests.waiting import PATIENCE_SECONDS
from training.__main__ import app, main
from training.checkpoints.native_format import save_checkpoint
from training.data.lists.labels import entries_of
from training.data.lists.listing import detect_kind
from training.data.prepare import FrameOptions, SplitOptions, prepare

Run = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of `tiny@1` of the small repository."""
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    save_checkpoint(path, shifted(tiny_checkpoint("clip"), 1))
    return path


@pytest.fixture
def few_shot(checkpoint_file: Path, cache: Path, tmp_path: Path) -> Run:
    """Runs the command; returns its last line and everything it said."""

    def run(
        listing: Path, *words: str, checkpoint: Path = checkpoint_file, status: int = 0
    ) -> tuple[dict[str, Any], str]:
        places = ["--cache", str(cache), "--out", str(tmp_path / "out"), "--workers", "1"]
        done = CliRunner().invoke(app, ["few-shot", str(checkpoint), str(listing), *places, *words])
        assert done.exit_code == status, (done.output, done.exception)
        return (json.loads(done.stdout.splitlines()[-1]) if status == 0 else {}), str(done.exception or done.stdout)

    return run


def test_a_table_of_every_k_and_method(few_shot: Run, class_folders: Path, tmp_path: Path) -> None:
    document, said = few_shot(class_folders, "--shots", "1,2", "--seeds", "0,1,2")
    assert [row["shots"] for row in document["summary"]] == [1, 2]
    assert len(document["draws"]) == 6
    for row in document["summary"]:
        for method in ("zero_shot", "prototypes", "linear"):
            assert len(row[method]["top1"]) == 3
            assert 0 <= row[method]["mean"] <= 1
            assert row[method]["deviation"] >= 0
    assert {draw["num_judged"] for draw in document["draws"]} == {6}  # two of each class are left by two shots
    assert said.count("±") == 7
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == document
    again, _ = few_shot(class_folders, "--shots", "2,1", "--seeds", "0, 1, 2")
    assert again["videos_encoded"] == 0
    assert again["summary"] == document["summary"]


def test_what_is_asked_wrongly_is_reported(few_shot: Run, class_folders: Path) -> None:
    for words, words_of_error in (
        (("--shots", "two"), "whole numbers"),
        (("--shots", "0"), "from 1"),
        (("--source", "frames"), "cannot be read: Is a directory"),
    ):
        assert words_of_error in few_shot(class_folders, *words, status=1)[1]
    broken = class_folders / "waving" / "clip 0.mp4"
    assert (
        "is a video or image (MP4, MOV, HEIF); expected weights"
        in few_shot(class_folders, checkpoint=broken, status=1)[1]
    )


def test_classes_that_are_short_say_so_and_keep_a_judge(few_shot: Run, class_folders: Path) -> None:
    document, said = few_shot(class_folders, "--shots", "2,16", "--seeds", "0")
    assert "16 shots, seed 0: 3 classes have fewer shots (closing arms 3" in said
    assert document["draws"][1]["num_shots"] == 9
    assert document["draws"][1]["num_judged"] == 3
    assert document["summary"][0]["linear"]["deviation"] is None


def test_lists_of_a_draw_are_written_in_both_formats(few_shot: Run, class_folders: Path, tmp_path: Path) -> None:
    made = tmp_path / "set"
    prepare(
        class_folders, made, frame_options=FrameOptions(short_side=40), split_options=SplitOptions(val=0.25), workers=1,
        deadline_seconds=60, retry_failed=False,
    )  # fmt: skip
    classes = ["--classes", str(made / "classes.csv")]
    few_shot(
        made / "videos_train.txt", "--test", str(made / "videos_val.txt"), "--shots", "2", "--seeds", "3", *classes
    )
    folder = tmp_path / "out" / "2_shots_seed_3"
    videos, frames = (read_rows(kind, folder / f"{kind}_train.txt") for kind in ("videos", "frames"))
    assert [detect_kind(folder / f"{kind}_train.txt") for kind in ("videos", "frames")] == ["videos", "frames"]
    assert [row.path.stem for row in videos] == [row.path.stem for row in frames]
    assert len(entries_of(videos, CLASSES)) == 6
    assert all(row.path.is_file() for row in videos)
    assert all((row.path / "img_00001.jpg").is_file() for row in frames)
    assert [row.label for row in read_rows("videos", folder / "videos_test.txt")] == [0, 1, 2]
    with (folder / "classes.csv").open() as stream:
        assert [row["name"] for row in csv.DictReader(stream)] == list(CLASSES)


def test_no_video_is_judged_by_itself(few_shot: Run, class_folders: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name}" for path in sorted(class_folders.rglob("*.mp4"))]
    listing = tmp_path / "all.csv"
    listing.write_text("\n".join(["path,label", *rows]))
    document, _ = few_shot(class_folders, "--test", str(listing), "--shots", "1,3", "--seeds", "0")
    assert [draw["num_judged"] for draw in document["draws"]] == [9, 3]


def test_videos_of_a_shot_s_group_and_its_copies_judge_nothing(
    few_shot: Run, class_folders: Path, tmp_path: Path
) -> None:
    """Four takes of two groups of each class, two copies of each take."""
    for name in CLASSES:
        (tmp_path / "set" / name).mkdir(parents=True)
        for number, clip in enumerate(sorted((class_folders / name).iterdir())[:4]):
            for copy in range(2):
                take = f"v_{name.replace(' ', '')}_g{number // 2:02d}_c{2 * number + copy:02d}.mp4"
                shutil.copy(clip, tmp_path / "set" / name / take)
    document, said = few_shot(tmp_path / "set", "--shots", "1,8", "--seeds", "0,1")
    assert (document["videos"], document["independent"], document["copies"]) == (24, 6, 12)
    assert "24 videos, 6 independent, 12 copies; each sample is tested on 3 independent videos" in said
    for draw in document["draws"]:
        assert (draw["num_judged"], draw["num_judged_independent"], draw["num_classes_judged"]) == (12, 3, 3)
        assert draw["num_shots"] == 3 * min(draw["shots"], 4) and draw["num_shots_independent"] == 3


def test_feedback_is_a_list_to_draw_from(few_shot: Run, class_folders: Path, tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path / "feedback", max_bytes=10**9, max_clips=100)
    folder.open()
    for name in CLASSES[:2]:
        for clip in sorted((class_folders / name).iterdir()):
            folder.add(clip, Correction(label=name), container="avi")
    document, _ = few_shot(folder.folder, "--shots", "2", "--seeds", "0")
    assert document["classes"] == 2
    assert document["videos_encoded"] == 0  # the same contents lie in the class folders


def test_a_prompt_head_s_features_are_those_before_it(few_shot: Run, class_folders: Path, tmp_path: Path) -> None:
    path = tmp_path / "xclip.pt"
    save_checkpoint(path, tiny_xclip())
    document, _ = few_shot(class_folders, "--shots", "2", "--seeds", "0", checkpoint=path)
    assert document["features"] == "video features before the prompt head"


@pytest.mark.parametrize("given", [("--shots", "2 4"), ("--shots", "2,"), ("--seeds", "0,x"), ("--seeds", "²")])
def test_numbers_have_commas_between_them(given: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["training", "few-shot", "model.pt", str(ROOT), *given])
        main()
    assert left.value.code == 2
    assert (
        f"{given[0]} must be whole numbers separated by commas, such as 2,4,8, got {given[1]!r}"
        in capsys.readouterr().err
    )


def test_a_server_given_the_shots_fits_the_same_prototypes(
    few_shot: Run, class_folders: Path, repository: Path, tmp_path: Path
) -> None:
    document, said = few_shot(class_folders, "--shots", "1,2", "--seeds", "0", "--vocabulary", "shots")
    commands = [shlex.split(line) for line in said.splitlines() if line.startswith("  actserve vocab")]
    assert len(commands) == 1 + len(CLASSES)
    variables = {"SERVE_REPOSITORY": str(repository), "SERVE_MODEL": "tiny@1", "SERVE_ENGINE": "onnxruntime-cpu"}
    with running_server(tmp_path / "cache", **variables) as server:
        for _, *words in commands:
            place = words.index("--") if "--" in words else len(words)
            command = [str(Path(sys.executable).with_name("actserve")), *words[:place], "--server", server.address]
            subprocess.run([*command, *words[place:]], check=True, capture_output=True, cwd=ROOT)
        clip = write_clip(tmp_path / "asked.mp4", first=5)
        response = httpx.post(
            f"{server.address}/v1/classify",
            files={"video": clip.read_bytes()},
            data={"vocabulary": "shots"},
            timeout=PATIENCE_SECONDS,
        )
    examples = response.json()["examples"]
    fit = document["draws"][1]["methods"]["prototypes"]["fit"]
    assert (document["draws"][1]["shots"], fit["num_examples"]) == (2, 6)
    assert examples["num_examples"] == 6
    assert examples["weight"] == pytest.approx(fit["weight"], rel=1e-4)
    assert examples["sharpness"] == pytest.approx(fit["sharpness"], rel=1e-4)
