"""The command: a result file, pictures, a table and one JSON line; two results compared; what is wrong is one line."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from serve.files import file_sha256
from tests.running_server import ROOT
from tests.tolerances import tolerance
from tests.training.conftest import CLASSES
from training.__main__ import app
from training.checkpoints.hugging_face import to_hugging_face
from training.checkpoints.native_format import load_checkpoint
from training.config import ConfigError
from training.evaluation.errors import EvaluationError
from training.evaluation.score_intervals import tango_interval


def evaluate(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)], catch_exceptions=True)


def done(*words: object) -> tuple[str, dict[str, object]]:
    """Everything before the last line, and the JSON of that one."""
    result = evaluate(*words, "--workers", 0) if "--compare" not in words else evaluate(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    *lines, last = result.stdout.splitlines()
    return "\n".join(lines), json.loads(last)


@pytest.fixture(scope="module")
def classes(frame_list: Path) -> Path:
    return frame_list.parent / "classes.csv"


@pytest.fixture(scope="module")
def results(checkpoints: Path, frame_list: Path, classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one.json` and `other.json`, of both checkpoints on the list."""
    folder = tmp_path_factory.mktemp("results")
    done(checkpoints / "xclip.pt", frame_list, "--classes", classes, "--out", folder / "one.json")
    done(
        checkpoints / "actionclip.pt", frame_list, "--classes", classes, "--out", folder / "other.json",
        "--clips", 2, "--view-rule", "mean_logit",
    )  # fmt: skip
    return folder


def test_a_checkpoint_is_evaluated_from_end_to_end(checkpoints: Path, video_list: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "evaluate", checkpoints / "xclip.pt", video_list]
    options = [
        "--classes",
        video_list.parent / "classes.csv",
        "--clips",
        "2",
        "--crops",
        "3",
        "--out",
        tmp_path / "sub" / "result.json",
    ]
    run = subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    *table, last = run.stdout.splitlines()
    line = json.loads(last)
    stored = json.loads((tmp_path / "sub" / "result.json").read_text())
    assert (stored["schema"], stored["version"]) == ("actserve-evaluation", 1)
    assert stored["checkpoint"]["step"] == line["step"] == 30
    assert stored["checkpoint"]["run"] == "runs/few"
    assert stored["checkpoint"]["few_shot"] == {"shots": 4, "seed": 2}
    assert re.fullmatch("[0-9a-f]{64}", stored["checkpoint"]["sha256"])
    assert (stored["protocol"]["num_clips"], stored["protocol"]["num_crops"]) == (2, 3)
    (split,) = stored["splits"]
    assert split["class_names"] == list(CLASSES)
    assert [row["index"] for row in split["videos"]] == [0, 1, 2, 3, 4, *range(6, 13)]
    assert [row["path"] for row in split["unreadable"]] == ["broken.mp4"]
    for row in split["videos"]:
        assert sum(probability for _, probability in row["top"]) == pytest.approx(1, abs=1e-5)  # of three classes
        assert (row["rank"] == 1) == (row["top"][0][0] == row["label"]) == (row["margin"] > 0)
    hits = [row["rank"] == 1 for row in split["videos"]]
    assert split["figures"]["top1"] == pytest.approx(sum(hits) / 12)
    assert split["figures"]["top1_all"] == pytest.approx(sum(hits) / 13)
    assert line["splits"][0]["unreadable"] == 1
    assert line["splits"][0]["top3"] == round(split["figures"]["top5"], 4), "three classes have no top-5"
    assert line["splits"][0]["top1"] == round(split["figures"]["top1"], 4)
    assert "unreadable: 1" in "\n".join(table) and "broken.mp4" in "\n".join(table)
    assert not list((tmp_path / "sub").glob("*.partial"))


def test_the_scores_of_every_class_are_kept_beside_a_result(results: Path) -> None:
    document = json.loads((results / "one.json").read_text())
    assert document["scores"] == {"file": "one.scores.npz", "sha256": file_sha256(results / "one.scores.npz")}
    (split,) = document["splits"]
    with np.load(results / "one.scores.npz") as arrays:
        scores, labels, paths, classes = (arrays[f"0/{name}"] for name in ("scores", "labels", "paths", "classes"))
    assert scores.shape == (12, len(CLASSES)) and scores.dtype == np.float32
    assert [video["path"] for video in split["videos"]] == paths.tolist()
    assert [video["label"] for video in split["videos"]] == classes[labels].tolist()
    assert float((scores.argmax(axis=1) == labels).mean()) == pytest.approx(split["figures"]["top1"])
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


def test_two_results_are_compared_in_pairs(results: Path) -> None:
    one, other = (json.loads((results / name).read_text())["splits"][0] for name in ("one.json", "other.json"))
    table, line = done("--compare", results / "one.json", results / "other.json", "--out", results / "both.json")
    (found,) = line["splits"]  # type: ignore[misc]
    first, second = ({row["path"]: row["rank"] == 1 for row in split["videos"]} for split in (one, other))
    assert found["gained"] == sum(second[path] and not first[path] for path in first)
    assert found["lost"] == sum(first[path] and not second[path] for path in first)
    assert (found["num_videos"], found["num_independent"], found["num_unreadable"]) == (12, 12, 1)
    top1 = found["figures"]["top1"]
    assert top1["difference"] == pytest.approx((found["gained"] - found["lost"]) / 12)
    assert top1["interval"][0] <= top1["difference"] <= top1["interval"][1]
    assert line["is_same_protocol"] is False and "protocols differ" in table
    assert "McNemar" in table and "1 not compared" in table
    whole = json.loads((results / "both.json").read_text())
    assert sorted(item["count"] for item in whole["splits"][0]["classes"]) == [3, 4, 5]
    _, same = done("--compare", results / "one.json", results / "one.json")
    interval = same["splits"][0]["figures"]["top1"]["interval"]  # type: ignore[index]
    assert interval == pytest.approx(tango_interval(0, 0, 12)), "twelve clips of agreement leave doubt"
    assert same["splits"][0]["mcnemar_p"] == 1 and same["is_same_protocol"] is True  # type: ignore[index]


def changed(results: Path, tmp_path: Path, what: str) -> Path:
    content = json.loads((results / "other.json").read_text())
    split = content["splits"][0]
    if what == "videos":
        split["videos"] = split["videos"][1:]
    elif what == "labels":
        split["videos"][0]["label"] = split["class_names"][2]
    elif what == "classes":
        split["class_names"] = [*split["class_names"], "bowing"]
    elif what == "order":
        split["class_names"] = split["class_names"][::-1]
    elif what == "splits":
        content["splits"] *= 2
    elif what == "version":
        content["version"] = 99
    elif what == "schema":
        content["schema"] = "something"
    elif what == "rank":
        split["videos"][0]["rank"] = 0
    elif what == "field":
        del split["videos"][0]["path"]
    (tmp_path / "changed.json").write_text(json.dumps(content))
    return tmp_path / "changed.json"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("videos", "different lists: 1 videos are only in one of them"),
        ("labels", "1 videos have different labels"),
        ("classes", "different class lists .*bowing"),
        ("order", "a different order"),
        ("splits", "1 splits, .* 2"),
        ("version", "the version must be 1"),
        ("schema", "not a result"),
        ("rank", "wrong type"),
        ("field", "field is missing"),
    ],
)
def test_results_that_do_not_go_together_are_refused(what: str, words: str, results: Path, tmp_path: Path) -> None:
    result = evaluate("--compare", results / "one.json", changed(results, tmp_path, what))
    assert isinstance(result.exception, EvaluationError)
    assert re.search(words, str(result.exception))


def test_classes_of_training_are_refused_unless_allowed(checkpoints: Path, frame_list: Path, classes: Path) -> None:
    trained = frame_list.parent / "trained.txt"
    trained.write_text("Closing_Arms\njumping\n")
    words = (checkpoints / "xclip.pt", frame_list, "--classes", classes, "--train-classes", trained)
    refused = evaluate(*words)
    assert isinstance(refused.exception, EvaluationError)
    assert "closing arms (Closing_Arms)" in str(refused.exception)
    out = frame_list.parent / "allowed.json"
    table, _ = done(*words, "--allow-overlap", "--out", out)
    zero_shot = json.loads(out.read_text())["splits"][0]["zero_shot"]
    assert zero_shot["overlap"] == [["closing arms", "Closing_Arms"]]
    assert "classes seen in training: 1" in table


def test_splits_have_a_mean_and_a_deviation(checkpoints: Path, frame_list: Path, classes: Path) -> None:
    lines = frame_list.read_text().splitlines()
    halves = [frame_list.parent / f"half {number}.txt" for number in range(2)]
    for number, path in enumerate(halves):
        path.write_text("\n".join(lines[number::2]))
    table, line = done(checkpoints / "actionclip.pt", *halves, "--classes", classes)
    one, other = (split["mean_class_accuracy"] for split in line["splits"])  # type: ignore[attr-defined]
    accuracy = line["over_splits"]["mean_class_accuracy"]  # type: ignore[index]
    assert accuracy["mean"] == pytest.approx((one + other) / 2, abs=1e-4)
    assert accuracy["standard_deviation"] == pytest.approx(abs(one - other) / 2**0.5, abs=2e-4)
    assert "over 2 splits" in table
    table, line = done(
        checkpoints / "actionclip.pt", frame_list, "--classes", classes, "--class-draws", 3, "--classes-per-draw", 2
    )
    assert [split["classes"] for split in line["splits"]] == [2, 2, 2]  # type: ignore[attr-defined]
    assert "over 3 splits" in table


def test_names_folders_and_templates_are_enough(checkpoints: Path, class_folders: Path, tmp_path: Path) -> None:
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split"])
        for number, path in enumerate(sorted(class_folders.rglob("*.mp4"))):
            writer.writerow([path, path.parent.name, "val" if number % 2 else "train"])
    (tmp_path / "templates.txt").write_text("a video of {}\n\nsomebody {}\n")
    _, line = done(
        checkpoints / "actionclip.pt", tmp_path / "list.csv", "--split", "val", "--templates",
        tmp_path / "templates.txt", "--system", "xclip",
    )  # fmt: skip
    assert line["splits"][0]["videos"] == 6 and line["templates"] == 2  # type: ignore[index]
    _, line = done(checkpoints / "actionclip.pt", class_folders, "--own-classes", "--plots", tmp_path / "plots")
    (split,) = line["splits"]  # type: ignore[misc]
    assert (split["videos"], split["classes"]) == (12, 4)
    drawn = sorted((tmp_path / "plots").iterdir())
    assert [path.stem for path in drawn] == ["classes", "confusion", "reliability", "top_k"]
    for path in drawn:
        with Image.open(path) as picture:
            assert min(picture.size) > 300 and len(picture.convert("RGB").getcolors(10**7)) > 20


def test_a_checkpoint_of_another_program_gives_the_same_rows(
    results: Path, checkpoints: Path, frame_list: Path, classes: Path, tmp_path: Path
) -> None:
    to_hugging_face(load_checkpoint(checkpoints / "xclip.pt"), tmp_path / "hub")
    done(tmp_path / "hub", frame_list, "--classes", classes, "--out", tmp_path / "hub.json")
    found, own = (json.loads(path.read_text()) for path in (tmp_path / "hub.json", results / "one.json"))
    for row, expected in zip(found["splits"][0]["videos"], own["splits"][0]["videos"], strict=True):
        assert (row["path"], row["rank"]) == (expected["path"], expected["rank"])
        assert row["label_probability"] == pytest.approx(expected["label_probability"], abs=tolerance(100.0) / 2)
    assert re.fullmatch("[0-9a-f]{64}", found["checkpoint"]["sha256"])
    assert found["checkpoint"]["few_shot"] == {}


def test_what_is_wrong_is_reported_in_one_line(
    checkpoints: Path, frame_list: Path, classes: Path, tmp_path: Path
) -> None:
    (tmp_path / "none.pt").write_bytes(b"nothing")
    (tmp_path / "templates.txt").write_text("no place\n")
    (tmp_path / "gone.txt").write_text("gone.mp4 0\nlost.mp4 1\n")
    good, xclip = ("--classes", classes), checkpoints / "xclip.pt"
    for words, expected in (
        ((xclip,), "at least one list"),
        ((tmp_path / "none.pt", frame_list, *good), "none.pt"),
        ((tmp_path / "absent.pt", frame_list, *good), "absent.pt"),
        ((xclip, frame_list, *good, "--crops", 2), "crops 1 or 3"),
        ((xclip, frame_list, *good, "--templates", tmp_path / "templates.txt"), "must contain it once"),
        ((xclip, frame_list, *good, "--device", "nosuch"), "--device nosuch"),
        ((xclip, frame_list, *good, "--precision", "fp16"), "the precision must be one of fp32, bf16"),
        ((xclip, frame_list, *good, "--device", "cpu", "--precision", "bf16"), "bf16 requires a GPU"),
        ((xclip, frame_list, *good, "--num-frames", 4), "num_frames"),
        ((xclip, frame_list, *good, *good), "--classes"),
        ((xclip, frame_list, *good, "--out", classes / "result.json"), "cannot write to the folder"),
        ((xclip, frame_list, *good, "--plots", classes / "sub"), "cannot write to the folder"),
        ((xclip, frame_list, "--own-classes"), "contains no class names"),
        ((xclip, frame_list, *good, "--own-classes"), "mutually exclusive"),
        ((xclip, frame_list, *good, "--class-draws", 2), "must be given together"),
        ((xclip, tmp_path / "gone.txt", *good, "--workers", 0), "none of the 2 videos can be read"),
    ):
        result = evaluate(*words)
        assert isinstance(result.exception, EvaluationError | ConfigError), words
        assert expected in str(result.exception)
