"""A gateway before a real Triton core: same answers as without it, honest while it is gone, back with it."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running_server import running_server
from tests.tolerances import tolerance
from tests.triton.core import TritonCore, free_ports, needs_triton, triton_core
from tests.waiting import PATIENCE_SECONDS, eventually
from training.demo.captions import combinations

pytestmark = [pytest.mark.triton, needs_triton()]
ALL = len(combinations())


def classify(http: httpx.Client, path: Path, **options: Any) -> httpx.Response:
    with path.open("rb") as stream:
        return http.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})


def logits(answer: dict[str, Any]) -> dict[str, float]:
    return {row["label"]: row["logit"] for row in answer["results"]}


def test_answers_are_those_of_the_embedded_engine_and_a_lost_server_is_reported(
    triton_repository: Path, demo_clip: Path, tmp_path: Path
) -> None:
    ports = free_ports()
    embedded = {"SERVE_REPOSITORY": str(triton_repository), "SERVE_ENGINE": "onnxruntime-cpu"}
    environment = {
        "SERVE_REPOSITORY": str(triton_repository), "SERVE_ENGINE": "triton",
        "SERVE_TRITON__URL": f"127.0.0.1:{ports.grpc}", "SERVE_TRITON__LOAD_TIMEOUT_SECONDS": f"{PATIENCE_SECONDS}",
    }  # fmt: skip
    options = ("--model-control-mode=explicit",)
    with (
        triton_core(triton_repository, tmp_path / "core", options=options, ports=ports) as core,
        running_server(tmp_path / "embedded", **embedded) as own,
        running_server(tmp_path / "cache", **environment) as gateway,
        httpx.Client(base_url=own.address, timeout=PATIENCE_SECONDS) as http,
        httpx.Client(base_url=gateway.address, timeout=PATIENCE_SECONDS) as through,
    ):
        assert list(Path("/dev/shm").glob(f"actserve-triton-{gateway.process.pid}-*")), "views go through shared memory"
        for views in ({}, {"num_clips": 4, "num_crops": 3}):
            here = classify(http, demo_clip, top_k=ALL, **views).json()
            there = classify(through, demo_clip, top_k=ALL, **views).json()
            assert there["model"]["engine"] == "triton"
            assert logits(there) == pytest.approx(logits(here), abs=tolerance(100.0))
        (loaded,) = [item for item in through.get("/v1/models").json()["models"] if item["loaded"]]
        assert loaded["engine_facts"]["views"] == "shared memory"
        assert "cpu" in loaded["engine_facts"]["video_instances"]
        for version in (1, 2):
            moved = through.post("/v1/models/tiny:activate", json={"version": version}, headers={"Prefer": "wait=300"})
            assert moved.status_code == 200, moved.text
        _lose(core, through, demo_clip)
        refused = through.post("/v1/models/tiny:rollback", headers={"Prefer": "wait=300"})
        assert refused.headers["content-type"] == "application/problem+json", refused.text
        assert refused.json()["type"] == "/problems/model-refused" and "Triton" in refused.json()["detail"]
        assert through.get("/v1/models").json()["previous"] == {"tiny": "1"}, "the routes stay"
        assert not list(Path("/dev/shm").glob("triton_*"))
        with triton_core(triton_repository, tmp_path / "core", options=options, ports=ports):
            assert eventually(lambda: through.get("/readyz").status_code == 200)
            again = classify(through, demo_clip, top_k=ALL).json()
            assert logits(again) == pytest.approx(
                logits(classify(http, demo_clip, top_k=ALL).json()), abs=tolerance(100.0)
            )
    assert not list(Path("/dev/shm").glob(f"actserve-triton-{gateway.process.pid}-*"))


def _lose(core: TritonCore, http: httpx.Client, clip: Path) -> None:
    """Kill the server while requests are under way: each ends, with an answer or a problem that says what happened."""
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(classify, http, clip, num_clips=10) for _ in range(24)]
        core.kill()
        answers = [task.result() for task in asked]
    assert {answer.status_code for answer in answers} <= {200, 503, 504}
    assert any(answer.status_code == 503 for answer in answers)
    for answer in answers:
        if answer.status_code != 200:
            assert answer.json()["type"] in ("/problems/engine-unavailable", "/problems/deadline-exceeded")
    assert eventually(lambda: http.get("/readyz").status_code == 503)
    assert "Triton" in http.get("/readyz").json()["detail"]
    assert http.get("/healthz").status_code == 200


def test_a_model_is_activated_and_rolled_back_on_the_server(
    core: TritonCore, triton_repository: Path, demo_clip: Path, tmp_path: Path
) -> None:
    environment = {
        "SERVE_REPOSITORY": str(triton_repository), "SERVE_MODEL": "tiny@1", "SERVE_ENGINE": "triton",
        "SERVE_TRITON__URL": core.grpc,
    }  # fmt: skip
    with (
        running_server(tmp_path / "cache", **environment) as gateway,
        httpx.Client(base_url=gateway.address, timeout=PATIENCE_SECONDS) as http,
        ThreadPoolExecutor(4) as pool,
    ):
        asked = [pool.submit(classify, http, demo_clip, vocabulary="kinetics400") for _ in range(60)]
        moved = http.post("/v1/models/tiny:activate", json={"version": 2}, headers={"Prefer": "wait=300"})
        assert (moved.status_code, moved.json()["default"]) == (200, "tiny@2"), moved.text
        back = http.post("/v1/models/tiny:rollback", headers={"Prefer": "wait=300"})
        assert (back.status_code, back.json()["default"]) == (200, "tiny@1")
        answers = [task.result() for task in asked]
        assert {answer.status_code for answer in answers} == {200}
        answers = {version: classify(http, demo_clip, model=f"tiny@{version}").json() for version in "12"}
        assert logits(answers["1"]) != logits(answers["2"])
