"""Stored videos of models that change, of models with a prompt head, and on gateways that share a store."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.running_server import RunningServer, running_server
from tests.serve.retrieval.conftest import answered, problem, sent
from tests.tolerances import tolerance
from tests.waiting import PATIENCE_SECONDS, eventually

LABELS = ["clapping", "playing drums", "swimming"]


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[RunningServer]:
    variables = {"SERVE_REPOSITORY": str(repository), "SERVE_MODEL": "tiny@1", "SERVE_ENGINE": "onnxruntime-cpu"}
    with running_server(tmp_path / "cache", **variables) as running:
        yield running


def test_a_new_version_makes_stored_videos_stale(server: RunningServer, demo_clip: Path) -> None:
    with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
        video_id = answered(sent(client, "classify", demo_clip, store=True))["video_id"]
        windows = answered(sent(client, "timeline", demo_clip, store=True))["video_id"]
        body = {"candidate_labels": LABELS}
        before = answered(client.post(f"/v1/videos/{video_id}:classify", json=body))
        client.post("/v1/models/tiny:activate", json={"version": 2}).raise_for_status()
        assert all(row["stale"] for row in answered(client.get("/v1/videos"))["videos"])
        for response in (
            client.post(f"/v1/videos/{video_id}:classify", json=body),
            client.post(f"/v1/videos/{windows}:timeline", json=body),
            client.post(f"/v1/videos/{video_id}:classify", json={**body, "model": "tiny@2"}),
            client.post("/v1/search", json={"video_id": video_id}),
        ):
            assert problem(response) == (409, "stale-video")
            assert response.json()["made_by"] == "tiny@1"
        page = answered(client.post("/v1/videos:classify", json=body))
        assert (page["videos"], page["num_stale"]) == ([], 2)
        found = answered(client.get("/v1/search?q=clapping"))
        assert (found["results"], found["num_stale"]) == ([], 2)
        client.post("/v1/models/tiny:rollback").raise_for_status()
        assert not any(row["stale"] for row in answered(client.get("/v1/videos"))["videos"])
        after = answered(client.post(f"/v1/videos/{video_id}:classify", json=body))
        assert after["results"] == before["results"]


def test_a_version_that_is_still_loaded_scores_when_it_is_named(server: RunningServer, demo_clip: Path) -> None:
    with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
        video_id = answered(sent(client, "classify", demo_clip, store=True))["video_id"]
        client.post("/v1/models/tiny:activate", json={"version": 2}).raise_for_status()
        body = {"candidate_labels": LABELS, "model": "tiny@1"}
        assert answered(client.post(f"/v1/videos/{video_id}:classify", json=body))["model"]["version"] == "1"


@pytest.mark.parametrize(("model", "has_head"), [("other", True), ("fused", False)])
def test_every_family_gives_its_numbers_again(
    repository: Path, tmp_path: Path, demo_clip: Path, model: str, has_head: bool
) -> None:
    variables = {"SERVE_REPOSITORY": str(repository), "SERVE_MODEL": model, "SERVE_ENGINE": "onnxruntime-cpu"}
    limit = tolerance(100.0)  # of the largest scale a contract has here
    with (
        running_server(tmp_path / "cache", **variables) as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client,
    ):
        body = {"candidate_labels": LABELS}
        direct = answered(sent(client, "classify", demo_clip, store=True, num_clips=2, **body))
        again = answered(client.post(f"/v1/videos/{direct['video_id']}:classify", json=body))
        page = answered(client.post("/v1/videos:classify", json=body))
        for answer in (again, page["videos"][0]):
            found = {row["label"]: row["logit"] for row in answer["results"]}
            assert found == pytest.approx({row["label"]: row["logit"] for row in direct["results"]}, abs=limit)
        windows = answered(sent(client, "timeline", demo_clip, store=True, view="windows", **body))
        made = answered(client.post(f"/v1/videos/{windows['video_id']}:timeline", json={**body, "view": "windows"}))
        for ours, theirs in zip(made["windows"], windows["windows"], strict=True):
            found = {row["label"]: row["logit"] for row in ours["results"]}
            assert found == pytest.approx({row["label"]: row["logit"] for row in theirs["results"]}, abs=limit)
        search = answered(client.get("/v1/search?q=clapping"))
        assert search["scored_by_cosine"] is not has_head
        assert search["num_windows"] == 2 + len(windows["windows"])


def test_gateways_of_one_store_share_videos(postgres_url: str, tmp_path: Path, demo_clip: Path) -> None:
    variables = {"SERVE_STORE_URL": postgres_url, "SERVE_ENGINE": "onnxruntime-cpu"}
    with (
        running_server(tmp_path / "one", **variables) as one,
        running_server(tmp_path / "two", **variables) as two,
        httpx.Client(base_url=one.address, timeout=PATIENCE_SECONDS) as here,
        httpx.Client(base_url=two.address, timeout=PATIENCE_SECONDS) as there,
    ):
        assert answered(there.get("/v1/search?q=walking"))["results"] == []
        video_id = answered(sent(here, "classify", demo_clip, store=True))["video_id"]
        found = [answered(client.get("/v1/search?q=walking"))["results"] for client in (here, there)]
        assert found[0] == found[1]
        assert [row["video_id"] for row in found[0]] == [video_id]
        assert answered(there.post(f"/v1/videos/{video_id}:classify", json={}))["video_id"] == video_id
        assert there.delete(f"/v1/videos/{video_id}").status_code == 204
        assert here.get(f"/v1/videos/{video_id}").status_code == 404
        assert eventually(lambda: here.get("/v1/search?q=walking").json()["results"] == [])
