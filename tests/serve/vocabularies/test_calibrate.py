"""`:calibrate` through a real server and from the command line: fitted, stored, applied, reported."""

import csv
import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.running_server import ROOT, RunningServer
from tests.shared_data import SHARED, needs_shared
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

KNOWN = ("bowing", "kicking", "squatting", "clapping")
UNKNOWN = ("falling down", "waving one arm", "sitting down", "dribbling a ball", "throwing a ball")
COLOURS = ("red", "blue", "green", "yellow")
Clips = list[tuple[Path, str | None]]


def rendered(folder: Path, action: str, seed: int) -> Path:
    path = folder / f"{action} {seed}.mp4"
    video = render_video(Combination(action, None, COLOURS[seed % 4]), "test", 300 + seed, size=100)
    write_video(path, video.frames, fps=video.fps)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Twelve clips of what the vocabulary knows, 25 of what it does not."""
    folder = tmp_path_factory.mktemp("calibration")
    known: Clips = [(rendered(folder, action, seed), action) for action in KNOWN for seed in range(3)]
    return known + [(rendered(folder, action, seed), None) for action in UNKNOWN for seed in range(5)]


@pytest.fixture
def name(http: httpx.Client) -> str:
    name = f"calibrated-{secrets.token_hex(4)}"
    made = http.put(f"/v1/vocabularies/{name}", json={"labels": list(KNOWN)}, headers={"If-None-Match": "*"})
    assert made.status_code == 200
    return name


def calibrate(http: httpx.Client, name: str, clips: Clips, *, version: int = 1, **options: Any) -> httpx.Response:
    files = [("clip", (path.name, path.read_bytes())) for path, _ in clips]
    document = {"labels": [label for _, label in clips], **options}
    return http.post(
        f"/v1/vocabularies/{name}:calibrate",
        files=files,
        data={"options": json.dumps(document)},
        headers={"If-Match": f'"{version}"'},
    )


def classify(http: httpx.Client, path: Path, **options: Any) -> dict[str, Any]:
    with path.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_fitted_values_are_stored_applied_and_reported(
    http: httpx.Client, name: str, clips: Clips, tmp_path: Path
) -> None:
    tried = calibrate(http, name, clips, dry_run=True)
    assert (tried.status_code, tried.json()["dry_run"], tried.json()["version"]) == (200, True, 1)
    assert http.get(f"/v1/vocabularies/{name}").json()["acceptance"] is None
    made = calibrate(http, name, clips)
    assert (made.status_code, made.json()["version"], made.json()["note"]) == (200, 2, "calibrated")
    acceptance, found = made.json()["acceptance"], made.json()["calibration"]
    assert {**acceptance, "fitted": None} == {**tried.json()["acceptance"], "fitted": None}
    assert http.get(f"/v1/vocabularies/{name}").json()["acceptance"] == acceptance
    fit = acceptance["fitted"]
    assert (fit["model"], fit["num_known"], fit["num_unknown"], fit["false_accept_rate"]) == ("demo@1", 12, 25, 0.05)
    low, high = fit["false_accept_interval"]
    assert 0 < low < 0.05 < high < 0.3
    assert found["false_accepts"] == 1 and fit["auroc"] > 0.9 and fit["accuracy"] > 0.9
    accepted = [not classify(http, path, vocabulary=name)["none_of_these"]["rejected"] for path, _ in clips]
    assert sum(accepted[12:]) == 1
    assert sum(accepted[:12]) == pytest.approx(12 * fit["true_accept_rate"])

    path = clips[0][0]
    before, after = classify(http, path, vocabulary=f"{name}@1"), classify(http, path, vocabulary=name)
    assert before["acceptance"] is None
    facts = after["acceptance"]
    assert (facts["applied"], facts["obstacle"], facts["caveats"]) == (True, None, [])
    assert (facts["temperature"], facts["false_accept_interval"]) == (acceptance["temperature"], [low, high])
    assert [row["logit"] for row in after["results"]] == [row["logit"] for row in before["results"]]
    assert [row["score"] for row in after["results"]] != [row["score"] for row in before["results"]]

    other = classify(http, path, vocabulary=name, templates=["a video of {}"])
    assert other["acceptance"]["applied"] is False and "templates" in other["acceptance"]["obstacle"]
    assert "sigmoid" in classify(http, path, vocabulary=name, function_to_apply="sigmoid")["acceptance"]["obstacle"]
    http.patch(f"/v1/vocabularies/{name}", json={"add": ["sleeping"]}, headers={"If-Match": '"2"'})
    acceptance = classify(http, path, vocabulary=name, num_clips=2)["acceptance"]
    assert acceptance["applied"] is True and len(acceptance["caveats"]) == 2
    overruled = classify(http, path, vocabulary=name, threshold=0.999999)
    assert overruled["none_of_these"]["rejected"] is True
    http.patch(f"/v1/vocabularies/{name}", json={"acceptance": None}, headers={"If-Match": '"3"'})
    assert classify(http, path, vocabulary=name)["acceptance"] is None


def test_single_label_questions_get_a_sigmoid_that_means_something(http: httpx.Client, clips: Clips) -> None:
    name = f"single-{secrets.token_hex(4)}"
    http.put(f"/v1/vocabularies/{name}", json={"labels": ["bowing"]}, headers={"If-None-Match": "*"})
    asked: Clips = [(path, label if label == "bowing" else None) for path, label in clips]
    made = calibrate(http, name, asked, function_to_apply="sigmoid")
    assert made.status_code == 200, made.text
    scores: dict[str | None, list[float]] = {}
    for path, label in asked:
        answer = classify(http, path, vocabulary=name, function_to_apply="sigmoid")
        scores.setdefault(label, []).append(answer["results"][0]["score"])
        assert answer["acceptance"]["applied"] is True
    known, unknown = np.array(scores["bowing"]), np.array(scores[None])
    assert known.mean() > 0.3 > 0.15 > unknown.mean()  # a share of right answers, though the logits are all large
    assert np.concatenate((known, unknown)).mean() == pytest.approx(3 / 37, abs=0.06)


def test_thresholds_set_by_hand_hold_for_every_model(http: httpx.Client, name: str, clips: Clips) -> None:
    path = clips[0][0]
    best = classify(http, path, vocabulary=name)["results"][0]
    url, change = f"/v1/vocabularies/{name}", {"criterion": "logit", "threshold": best["logit"] - 1}
    assert http.patch(url, json={"acceptance": change}, headers={"If-Match": '"1"'}).status_code == 200
    answer = classify(http, path, vocabulary=name)
    assert [row["accepted"] for row in answer["results"]] == [True, False, False, False]
    assert answer["acceptance"]["false_accept_rate"] is None
    update = {"name": best["label"], "threshold": best["logit"] + 1}
    assert http.patch(url, json={"update": [update]}, headers={"If-Match": '"2"'}).status_code == 200
    assert classify(http, path, vocabulary=name)["none_of_these"]["rejected"] is True
    exported = http.get(f"{url}:export").json()
    assert exported["labels"][0]["threshold"] == pytest.approx(best["logit"] + 1)
    assert http.put(url, json=exported, headers={"If-Match": '"3"'}).status_code == 200
    assert http.get(url).json()["acceptance"] == exported["acceptance"]
    for wrong in ({"temperature": 0}, {"threshold": "high"}, {"criterion": "cosine"}, {"none": 1}):
        assert http.patch(url, json={"acceptance": wrong}, headers={"If-Match": '"4"'}).status_code == 422


def test_what_cannot_be_fitted_is_reported_and_changes_nothing(
    http: httpx.Client, name: str, clips: Clips, tmp_path: Path
) -> None:
    broken = tmp_path / "notes.mp4"
    broken.write_text("hello")

    def refused(response: httpx.Response, status: int, words: str) -> None:
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
        assert words in response.json()["detail"], response.text

    few = clips[:14]
    refused(calibrate(http, name, few), 422, "needs 19")
    refused(calibrate(http, name, few, labels=["bowing"]), 422, "14 clips were sent with 1 labels")
    refused(calibrate(http, name, [(clips[0][0], "bicycling")]), 404, "bicycling")
    refused(calibrate(http, name, [*clips, (broken, None)]), 415, "notes.mp4")
    refused(calibrate(http, name, clips, version=3), 412, "not 3")
    refused(calibrate(http, name, few, false_accept_rate=0), 422, "false_accept_rate")
    refused(http.post(f"/v1/vocabularies/{name}:calibrate", files={"clip": b"x"}), 428, "If-Match")
    assert http.get(f"/v1/vocabularies/{name}").headers["etag"] == '"1"'


def test_copies_and_pieces_of_one_video_count_once(http: httpx.Client, name: str, clips: Clips, tmp_path: Path) -> None:
    """25 different clips, then one of them 25 times beside them, then the pieces of a few videos."""
    once = calibrate(http, name, clips, dry_run=True).json()
    copies: Clips = [(tmp_path / f"copy{number}.mp4", None) for number in range(24)]
    copies += [(tmp_path / f"known{number}.mp4", clips[0][1]) for number in range(5)]
    for path, label in copies:
        shutil.copy(clips[0][0] if label else clips[-1][0], path)
    copied = calibrate(http, name, clips + copies, dry_run=True).json()
    assert copied["calibration"] == once["calibration"]
    fit = copied["acceptance"]["fitted"]
    assert (fit["num_known"], fit["num_unknown"], fit["num_copies"]) == (17, 49, 29)
    assert (fit["num_known_independent"], fit["num_unknown_independent"]) == (12, 25)
    assert fit["false_accept_interval"] == once["acceptance"]["fitted"]["false_accept_interval"]

    alone = calibrate(http, name, [*clips[:12], clips[-1], *copies[:24]])
    assert alone.status_code == 422
    problem = alone.json()
    assert "25 clips show none of the labels, 1 of them independent, 24 are copies" in problem["detail"]
    assert (problem["num_unknown"], problem["num_independent"], problem["num_copies"]) == (25, 1, 24)

    pieces: Clips = [(tmp_path / f"film_part{number}.mp4", None) for number in range(25)]
    for (path, _), (source, _) in zip(pieces, clips[12:], strict=True):
        shutil.copy(source, path)
    assert "1 of them independent;" in calibrate(http, name, [*clips[:12], *pieces]).json()["detail"]
    groups = [*[None] * 12, *[f"person {number % 20}" for number in range(25)]]
    grouped = calibrate(http, name, clips, groups=groups, dry_run=True).json()
    assert (
        grouped["acceptance"]["fitted"]["num_unknown_independent"] == grouped["calibration"]["num_unknown_used"] == 20
    )
    refused = calibrate(http, name, clips, groups=["a"])
    assert (refused.status_code, "37 clips were sent with 1 groups" in refused.json()["detail"]) == (422, True)
    other = calibrate(http, name, [*clips, (copies[-1][0], None)])
    assert (other.status_code, "the same content and different labels" in other.json()["detail"]) == (422, True)


@needs_shared
def test_the_field_list_of_one_clip_25_times_is_refused(demo_server: RunningServer, name: str) -> None:
    index = SHARED / "data" / "field_training" / "copies" / "calibrate.csv"
    command = [str(Path(sys.executable).with_name("actserve")), "vocab", "calibrate", name, str(index)]
    done = subprocess.run([*command, "--server", demo_server.address], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0
    assert "1 of them independent, 24 are copies" in " ".join(done.stderr.split())


def test_the_command_line_calibrates_draws_and_handles_examples(
    demo_server: RunningServer, name: str, clips: Clips, tmp_path: Path
) -> None:
    index = tmp_path / "clips.csv"
    with index.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "group"])
        writer.writerows((path, label or "", f"person {number % 36}") for number, (path, label) in enumerate(clips))

    def run(*words: str) -> str:
        command = [str(Path(sys.executable).with_name("actserve")), "vocab", *words, "--server", demo_server.address]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = run("calibrate", name, str(index), "--plot", str(tmp_path / "plots"), "--author", "ada")
    assert f"{name}@2" in shown and "12 known, 25 unknown" in shown and "1 of 25" in shown
    assert "12 known, 25 unknown; 0 copies" in shown
    for picture in ("reliability.png", "open_set.png"):
        with Image.open(tmp_path / "plots" / picture) as drawn:
            assert drawn.size == (750, 750)
            assert len(drawn.convert("RGB").getcolors(2**20)) > 20
    assert run("calibrate", name, str(index), "--print-curl").startswith("curl -X POST")
    clip = str(clips[0][0])
    assert f"{name}@3" in run("add-examples", name, "bowing", clip)
    label, example_id, filename = run("examples", name, "bowing").strip().split("\t")
    assert (label, filename) == ("bowing", clips[0][0].name)
    assert f"{name}@4" in run("remove-examples", name, "bowing", example_id)
    assert run("examples", name) == ""
    assert "calibrated" in run("history", name) and "ada" in run("history", name)
