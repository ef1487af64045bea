"""Changing the model of a running server: under load, with candidates that fail, over restarts, between gateways."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from serve.models.runtime import load_runtime
from serve.settings import ServeSettings
from serve.video.workers import DecodePool, ViewRequest
from tests.running_server import RunningServer, running_server
from tests.tolerances import tolerance
from tests.waiting import PATIENCE_SECONDS, eventually

LABELS = ("clapping", "playing drums", "swimming", "yawning")
ADDED = 10  # labels that are added while models change
LOGITS = tolerance(100.0)  # of the largest scale a contract has here


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[RunningServer]:
    variables = {"SERVE_REPOSITORY": str(repository), "SERVE_MODEL": "tiny@1", "SERVE_ENGINE": "openvino-f32"}
    with running_server(tmp_path / "cache", **variables) as running:
        yield running


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
        yield client


async def offline_logits(repository: Path, reference: str, clip: Path, cache: Path) -> dict[str, float]:
    """Logits of the labels under one version, without a server."""
    settings = ServeSettings(repository=repository, cache_dir=cache, engine="openvino-f32")
    runtime, pool = await load_runtime(settings, reference), DecodePool(settings.decode)
    await pool.start()
    contract = runtime.contract
    request = ViewRequest(sampling=contract.sampling, preprocess=contract.preprocess, num_clips=1, num_crops=1)
    decoded = await pool.views(clip, request)
    features = await runtime.engine.encode_video(decoded.views, deadline=asyncio.get_running_loop().time() + 60)
    logits = await runtime.logits(features, await runtime.bank_builder.build(LABELS, contract.text.templates))
    await pool.close()
    await runtime.close()
    return dict(zip(LABELS, logits.mean(axis=(0, 1)).tolist(), strict=True))


@pytest.fixture(scope="session")
def offline(repository: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Version -> logits of the labels."""
    cache = tmp_path_factory.mktemp("offline")
    return {version: asyncio.run(offline_logits(repository, f"tiny@{version}", clip, cache)) for version in ("1", "2")}


def classify(http: httpx.Client, clip: Path, **options: Any) -> httpx.Response:
    with clip.open("rb") as stream:
        return http.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})


def is_of_its_version(answer: dict[str, Any], offline: dict[str, dict[str, float]]) -> bool:
    """Whether the answer has LABELS, each with the logit of the version that the answer names."""
    expected = offline[answer["model"]["version"]]
    found = {row["label"]: row["logit"] for row in answer["results"]}
    return all(each in found and abs(found[each] - expected[each]) <= LOGITS for each in expected)


def test_versions_of_the_repository_give_other_numbers(offline: dict[str, dict[str, float]]) -> None:
    assert np.abs(np.subtract(list(offline["1"].values()), list(offline["2"].values()))).max() > 10 * LOGITS


def test_activations_under_load_fail_no_request_and_mix_no_versions(
    server: RunningServer, http: httpx.Client, clip: Path, offline: dict[str, dict[str, float]]
) -> None:
    made = http.put("/v1/vocabularies/words", json={"labels": list(LABELS)}, headers={"If-None-Match": "*"})
    assert made.status_code == 200
    stop, answers, faults = threading.Event(), [], []

    def ask() -> None:
        with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as own:
            while not stop.is_set():
                response = classify(own, clip, vocabulary="words", top_k=len(LABELS) + ADDED)
                (answers if response.status_code == 200 else faults).append(response.json())

    def change() -> None:
        """Vocabularies change beside it."""
        with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as own:
            for number in range(ADDED):
                patch = {"add": [f"label {number}"]}
                changed = own.patch("/v1/vocabularies/words", json=patch, headers={"If-Match": "*"})
                if changed.status_code not in (200, 202):
                    faults.append(changed.json())

    with ThreadPoolExecutor(5) as clients:
        asking = [clients.submit(ask) for _ in range(4)]
        clients.submit(change).result()
        try:
            for version in (2, None, 2, 1, None, 1, 2):  # None: rollback
                before = len(answers)
                move, body = ("rollback", {}) if version is None else ("activate", {"version": version})
                moved = http.post(f"/v1/models/tiny:{move}", json=body, headers={"Prefer": "wait=60"})
                assert (moved.status_code, moved.json()["is_done"]) == (200, True), moved.text
                reference = moved.json()["default"]
                assert classify(http, clip, vocabulary="words").json()["model"]["version"] == reference[-1]
                assert eventually(lambda: len(answers) > before + 8)  # noqa: B023
        finally:
            stop.set()
        for client in asking:
            client.result()
    assert not faults
    versions = Counter(answer["model"]["version"] for answer in answers)
    assert min(versions["1"], versions["2"]) > 10
    assert all(is_of_its_version(answer, offline) for answer in answers)
    assert answers[-1]["vocabulary"] == f"words@{1 + ADDED}"
    assert len(answers[-1]["results"]) == len(LABELS) + ADDED


def test_a_candidate_that_fails_leaves_the_running_version_and_says_why(http: httpx.Client, clip: Path) -> None:
    refused = http.post("/v1/models/tiny:activate", json={"version": 3})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/model-refused")
    assert "sha256" in refused.json()["detail"]
    found = http.get("/v1/models").json()
    assert (found["staging"]["reference"], found["staging"]["stage"]) == ("tiny@3", "failed")
    assert "sha256" in found["staging"]["fault"]
    assert {item["version"] for item in found["models"] if item["loaded"]} == {"1"}
    assert classify(http, clip).json()["model"]["version"] == "1"
    http.put("/v1/vocabularies/long", json={"labels": ["word " * 60]}, headers={"If-None-Match": "*"})
    for name, version, status, words in (
        ("tiny", 9, 404, "tiny@9"), ("absent", None, 404, "absent"), ("tiny", 0, 422, "greater than"),
    ):  # fmt: skip
        response = http.post(f"/v1/models/{name}:activate", json={"version": version})
        assert (response.status_code, words in response.text) == (status, True), response.text
    assert http.post("/v1/models/tiny:rollback").status_code == 404
    clash = http.post("/v1/models/tiny:activate", json={"alias": "other"})
    assert (clash.status_code, "another model" in clash.json()["detail"]) == (422, True)


def test_one_activation_at_a_time(http: httpx.Client) -> None:
    first = http.post("/v1/models/tiny:activate", json={"version": 2}, headers={"Prefer": "wait=0"})
    assert (first.status_code, first.headers["location"]) == (202, "/v1/models")
    second = http.post("/v1/models/other:activate", headers={"Prefer": "wait=0"})
    assert (second.status_code, second.json()["type"]) == (409, "/problems/activation-under-way")
    assert eventually(lambda: http.get("/v1/models").json()["default"] == "tiny@2")
    staging = http.get("/v1/models").json()["staging"]
    assert staging["stage"] == "active" and staging["done"] == staging["total"] > 0


def test_a_change_of_models_that_others_have_changed_is_refused(http: httpx.Client) -> None:
    tag = http.get("/v1/models").headers["etag"]
    stale = http.post("/v1/models/tiny:activate", json={"version": 2}, headers={"If-Match": '"0123456789abcdef"'})
    assert (stale.status_code, stale.json()["type"]) == (412, "/problems/stale-version")
    assert stale.json()["etag"] == http.get("/v1/models").headers["etag"] == tag
    headers = {"If-Match": f'"other", {tag}', "Prefer": "wait=60"}
    changed = http.post("/v1/models/tiny:activate", json={"version": 2}, headers=headers)
    assert changed.status_code == 200 and changed.headers["etag"] not in ("", tag)
    assert http.post("/v1/models/tiny:rollback", headers={"If-Match": tag}).status_code == 412
    assert http.get("/v1/models").json()["default"] == "tiny@2"
    back = http.post("/v1/models/tiny:rollback", headers={"If-Match": changed.headers["etag"], "Prefer": "wait=60"})
    assert back.status_code == 200 and http.get("/v1/models").json()["default"] == "tiny@1"
    assert http.post("/v1/models/tiny:activate", json={"version": 1}, headers={"If-Match": "*"}).status_code == 200


def test_a_model_of_another_signature_takes_over_by_its_alias(http: httpx.Client, clip: Path) -> None:
    """`other` is X-CLIP: beside the default first, then as the default, then back."""
    assert classify(http, clip, model="other").status_code == 404
    beside = http.post("/v1/models/other:activate", headers={"Prefer": "wait=60"}).json()
    assert (beside["default"], beside["active"]) == ("tiny@1", ["other@1", "tiny@1"])
    assert classify(http, clip, model="other").json()["model"]["name"] == "other"
    moved = http.post("/v1/models/other:activate", json={"alias": "default"}, headers={"Prefer": "wait=60"}).json()
    assert moved["default"] == "other@1"
    assert classify(http, clip).json()["model"]["name"] == "other"
    live = {"version": 1, "alias": "live"}
    assert http.post("/v1/models/tiny:activate", json=live, headers={"Prefer": "wait=60"}).status_code == 200
    assert classify(http, clip, model="live").json()["model"]["name"] == "tiny"
    back = http.post("/v1/models/default:rollback", headers={"Prefer": "wait=60"}).json()
    assert back["default"] == "tiny@1"
    assert classify(http, clip).json()["model"]["name"] == "tiny"
    assert http.get("/v1/models").json()["aliases"] == {"default": "tiny", "live": "tiny"}


def test_an_activation_survives_kill_and_holds_until_the_setting_changes(
    repository: Path, tmp_path: Path, clip: Path
) -> None:
    def start(model: str) -> Any:
        return running_server(tmp_path / "cache", SERVE_REPOSITORY=str(repository), SERVE_MODEL=model)

    with start("tiny@1") as server, httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http:
        assert http.post("/v1/models/tiny:activate", json={"version": 2}, headers={"Prefer": "wait=60"}).is_success
        server.process.kill()
    with start("tiny@1") as server, httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http:
        assert classify(http, clip).json()["model"]["version"] == "2"
        back = http.post("/v1/models/tiny:rollback", headers={"Prefer": "wait=60"}).json()
        assert back["default"] == "tiny@1"  # staged again: a restart loads what is active alone
    with start("other") as server, httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http:
        assert classify(http, clip).json()["model"]["name"] == "other"


def test_gateways_of_one_store_follow_each_other(
    repository: Path, tmp_path: Path, clip: Path, postgres: str, offline: dict[str, dict[str, float]]
) -> None:
    name = "activation_test"
    admin = sa.create_engine(sa.make_url(postgres).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    url = sa.make_url(postgres).set(database=name).render_as_string(hide_password=False)
    shared = {"SERVE_REPOSITORY": str(repository), "SERVE_MODEL": "tiny@1", "SERVE_STORE_URL": url}
    with (
        running_server(tmp_path / "one", **shared) as one,
        running_server(tmp_path / "two", **shared) as two,
        httpx.Client(base_url=one.address, timeout=PATIENCE_SECONDS) as first,
        httpx.Client(base_url=two.address, timeout=PATIENCE_SECONDS) as second,
    ):
        assert first.post("/v1/models/tiny:activate", json={"version": 2}, headers={"Prefer": "wait=60"}).is_success
        assert eventually(lambda: second.get("/v1/models").json()["default"] == "tiny@2")
        answer = classify(second, clip, candidate_labels=list(LABELS)).json()
        assert answer["model"]["version"] == "2" and is_of_its_version(answer, offline)
        assert second.post("/v1/models/tiny:rollback", headers={"Prefer": "wait=60"}).is_success
        assert eventually(lambda: first.get("/v1/models").json()["default"] == "tiny@1")
    with admin.connect() as connection:
        connection.execute(sa.text(f"drop database {name} with (force)"))
    admin.dispose()
