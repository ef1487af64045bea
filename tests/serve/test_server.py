"""The whole line through a real server with the bundled demo model: answers, limits, hostile files, command line."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.running_server import ROOT, RunningServer, running_server
from tests.shared_data import LABELS, ODD, VIDEOS, needs_shared
from tests.waiting import PATIENCE_SECONDS, eventually

TWO = ["a person in red walking to the left", "a person in red walking to the right"]


def classify(http: httpx.Client, path: Path, **options: Any) -> httpx.Response:
    with path.open("rb") as stream:
        return http.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})


def test_an_answer_has_the_promised_shape(http: httpx.Client, demo_clip: Path) -> None:
    answer = classify(http, demo_clip, top_k=3).json()
    assert answer["model"]["name"] == "demo"
    assert answer["vocabulary"] == "demo@1"
    assert len(answer["results"]) == 3
    scores = [item["score"] for item in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    for item in answer["results"]:
        assert 0 <= item["score"] <= 1
        assert -1 <= item["cosine"] <= 1
        assert item["logit"] != item["cosine"]
    sampling = answer["sampling"]
    assert [len(clip) for clip in sampling["frame_indices"]] == [8]
    assert sampling["num_frames"] > max(sampling["frame_indices"][0])
    assert sampling["num_corrupt_frames"] == 0
    assert set(answer["timing_ms"]) >= {"upload", "queue", "decode", "engine", "score", "total"}


def test_the_direction_of_a_rendered_walk_is_seen(http: httpx.Client, demo_clip: Path) -> None:
    assert classify(http, demo_clip, candidate_labels=TWO).json()["results"][0]["label"] == TWO[0]


def test_form_fields_and_raw_bodies_give_the_same_answer(http: httpx.Client, demo_clip: Path) -> None:
    body = demo_clip.read_bytes()
    fields = {"candidate_labels": json.dumps(TWO), "top_k": "2", "num_clips": "2", "num_crops": "3"}
    form = http.post("/v1/classify", files={"video": body}, data=fields)
    raw = http.post("/v1/classify", content=body, params=fields, headers={"content-type": "video/mp4"})
    assert form.status_code == raw.status_code == 200
    assert form.json()["results"] == raw.json()["results"]
    assert form.json()["vocabulary"] is None
    assert form.json()["sampling"]["num_clips"] == 2


def test_an_answer_carries_the_notice_of_its_model(http: httpx.Client, demo_clip: Path) -> None:
    notice = classify(http, demo_clip, candidate_labels=TWO).json()["notice"]
    assert "rendered figures only" in notice
    models = {version["name"]: version for version in http.get("/v1/models").json()["models"]}
    assert models["demo"]["notice"] == notice


def test_functions_change_scores_and_not_logits(http: httpx.Client, demo_clip: Path) -> None:
    answers = {
        function: {item["label"]: item for item in classify(
            http, demo_clip, candidate_labels=TWO, function_to_apply=function
        ).json()["results"]}
        for function in ("softmax", "sigmoid", "none")
    }  # fmt: skip
    for label in TWO:
        assert answers["none"][label]["score"] is None
        assert len({answer[label]["logit"] for answer in answers.values()}) == 1
    assert sum(item["score"] for item in answers["softmax"].values()) == pytest.approx(1, abs=1e-5)
    assert sum(item["score"] for item in answers["sigmoid"].values()) != pytest.approx(1, abs=1e-3)


def test_a_threshold_rejects(http: httpx.Client, demo_clip: Path) -> None:
    labels = ["clapping", "drinking", "bowing", "kicking"]  # none of them is shown
    best = classify(http, demo_clip, candidate_labels=labels).json()["results"][0]["score"]
    assert best < 1
    answer = classify(http, demo_clip, candidate_labels=labels, threshold=(1 + best) / 2).json()
    assert answer["none_of_these"]["rejected"]
    assert not any(item["accepted"] for item in answer["results"])


@pytest.mark.parametrize(
    ("options", "status", "kind"),
    [
        ({"vocabulary": "nosuch"}, 404, "unknown-vocabulary"),
        ({"vocabulary": "demo@9"}, 404, "unknown-vocabulary"),
        ({"model": "nosuch"}, 404, "unknown-model"),
        ({"candidate_labels": []}, 422, "invalid-vocabulary"),
        ({"candidate_labels": ["a", "a "]}, 422, "invalid-vocabulary"),
        ({"candidate_labels": ["a\x00b"]}, 422, "invalid-option"),
        ({"candidate_labels": ["walk " * 80]}, 422, "invalid-vocabulary"),
        ({"candidate_labels": [f"label {i}" for i in range(1001)]}, 422, "invalid-vocabulary"),
        ({"hypothesis_template": "no place"}, 422, "invalid-vocabulary"),
        ({"top_k": 0}, 422, "invalid-option"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_options_that_cannot_be_used_are_reported(
    http: httpx.Client, demo_clip: Path, options: dict[str, Any], status: int, kind: str
) -> None:
    response = classify(http, demo_clip, **options)
    assert response.status_code == status, response.text
    assert response.json()["type"] == f"/problems/{kind}"
    assert response.headers["content-type"] == "application/problem+json"


def test_health_limits_models_and_documents(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "alive"}
    assert http.get("/readyz").json()["status"] == "ready"
    assert http.get("/v1/limits").json()["max_upload_bytes"] > 0
    models = http.get("/v1/models").json()
    assert models["default"].startswith("demo@")
    assert "rendered" in models["models"][0]["contract"]["card"]
    names = {item["name"] for item in http.get("/v1/vocabularies").json()["vocabularies"]}
    assert names >= {"demo", "kinetics400"}
    document = http.get("/openapi.json").json()
    assert "multipart/form-data" in document["paths"]["/v1/classify"]["post"]["requestBody"]["content"]
    assert "actserve_requests_total" in http.get("/metrics").text
    assert http.get("/nowhere").headers["content-type"] == "application/problem+json"


@needs_shared
def test_the_built_in_kinetics_labels_are_the_published_ones(http: httpx.Client) -> None:
    labels = http.get("/v1/vocabularies/kinetics400").json()["labels"]
    assert [label["name"] for label in labels] == (LABELS / "kinetics400.txt").read_text().splitlines()


@needs_shared
def test_every_odd_file_meets_its_outcome_through_the_server(http: httpx.Client, demo_clip: Path) -> None:
    import csv

    with (ODD / "index.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    wrong = []
    for row in rows:
        response = classify(http, ODD / row["file"], top_k=1)
        allowed = {"decodes": {200}, "error": {415, 422}, "either": {200, 415, 422}}[row["expected"]]
        if response.status_code not in allowed or (response.status_code != 200 and not response.json()["detail"]):
            wrong.append((row["file"], response.status_code, response.text[:200]))
        assert http.get("/readyz").status_code == 200
    assert not wrong
    assert classify(http, demo_clip, top_k=1).status_code == 200


@needs_shared
def test_real_clips_are_answered_with_their_frame_count(http: httpx.Client) -> None:
    import csv

    with (VIDEOS / "index.csv").open(newline="", encoding="utf-8") as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream)}
    for name in ("arm_wrestling.mp4", "baseball_game.mp4", "wave_a.avi", "cricket_shot.gif", "sign_language_a.mkv"):
        answer = classify(http, VIDEOS / name, vocabulary="kinetics400").json()
        assert answer["sampling"]["num_frames"] == int(rows[name]["frames"]), name
        assert answer["vocabulary"] == "kinetics400@1"


def test_the_command_line_gives_the_server_s_answer(
    demo_server: RunningServer, demo_clip: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "page.mp4"
    broken.write_text("<!doctype html><p>not found</p>")
    labels = json.dumps(TWO)

    def run(*extra: str) -> subprocess.CompletedProcess[str]:
        command = [
            str(Path(sys.executable).with_name("actserve")),
            "classify",
            str(demo_clip),
            str(broken),
            "--labels",
            labels,
            "--model",
            "demo",
            "--json",
        ]
        return subprocess.run([*command, *extra], capture_output=True, text=True, cwd=ROOT)

    here, there = run(), run("--server", demo_server.address)
    rows = [[json.loads(line) for line in result.stdout.splitlines()] for result in (here, there)]
    assert here.returncode == there.returncode == 1  # one of the two files is broken
    assert [row["input"] for row in rows[0]] == [str(demo_clip), str(broken)]
    assert rows[0][0]["result"]["results"] == rows[1][0]["result"]["results"]
    assert rows[0][1]["problem"]["type"] == rows[1][1]["problem"]["type"] == "/problems/unsupported-media"


def test_nothing_is_left_behind_when_the_server_stops(tmp_path: Path, demo_clip: Path) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    with running_server(tmp_path / "cache", SERVE_UPLOAD_DIR=str(uploads)) as server:
        with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
            assert classify(client, demo_clip).status_code == 200
        folders = list(uploads.iterdir())
        assert len(folders) == 1 and [path.name for path in folders[0].iterdir()] == ["in-use"]  # the lock
    assert server.process.returncode == 0
    assert eventually(lambda: not list(uploads.iterdir()))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SERVE_MODEL": "nosuch"}, "has no model 'nosuch'"),
        ({"SERVE_BATCH__MAX_VIEWS": "0"}, "SERVE_BATCH__MAX_VIEWS"),
        ({"SERVE_ENGINE": "onnxruntime-cuda"}, "CUDAExecutionProvider"),
    ],
    ids=["unknown model", "bound", "a GPU that is not there"],
)
def test_a_start_that_cannot_work_says_why(tmp_path: Path, variables: dict[str, str], words: str) -> None:
    with pytest.raises(RuntimeError, match=words), running_server(tmp_path, **variables):
        pass


@pytest.mark.parametrize(
    ("method", "target", "content_type"),
    [
        ("POST", "/v1/classify", "video/mp4"),
        ("POST", "/v1/classify", "multipart/form-data; boundary=b"),
        ("PATCH", "/v1/vocabularies/demo", "application/json"),
    ],
)
def test_a_client_that_disconnects_counts_as_499(
    demo_server: RunningServer, http: httpx.Client, method: str, target: str, content_type: str
) -> None:
    route = "/v1/vocabularies/{name}" if "demo" in target else target
    counter = f'actserve_requests_total{{route="{route}",status="499"}}'

    def count() -> float:
        lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(counter)]
        return float(lines[0].split()[-1]) if lines else 0.0

    before = count()
    found = urlsplit(demo_server.address)
    assert found.hostname is not None
    head = f'{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nIf-Match: "1"\r\nContent-Type: {content_type}\r\n'
    with socket.create_connection((found.hostname, found.port or 80)) as connection:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n--b\r\n".encode())
    assert eventually(lambda: count() == before + 1)


def test_a_client_sets_the_time_limit_of_its_request(http: httpx.Client, demo_clip: Path) -> None:
    for target in ("/v1/classify", "/v1/embeddings"):
        late = http.post(target, files={"video": demo_clip.read_bytes()}, headers={"X-Request-Timeout": "0.001"})
        assert late.status_code == 504 and late.json()["type"] == "/problems/deadline-exceeded"
    assert http.get("/v1/vocabularies", headers={"X-Request-Timeout": "600"}).status_code == 200


@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "1e3", "999999", "nan", "1, 2"])
def test_a_time_limit_that_cannot_be_read_is_refused(http: httpx.Client, value: str) -> None:
    response = http.get("/v1/models", headers={"X-Request-Timeout": value})
    assert response.status_code == 422 and "X-Request-Timeout" in response.json()["detail"]
