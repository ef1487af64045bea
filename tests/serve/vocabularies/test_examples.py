"""Example clips through a real server: they help at once, are kept, and leave no trace when removed."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

NEW_WORDS = ["flumping / 100% 🤸", "gribbing", "zorping"]  # which no text tower has seen
ACTIONS = ["doing jumping jacks", "bowing", "kicking"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Four clips of each action."""
    folder = tmp_path_factory.mktemp("examples")
    found: dict[str, list[Path]] = {}
    for action in ACTIONS:
        for seed in range(4):
            path = folder / f"{action} {seed}.mp4"
            video = render_video(Combination(action, None, "red"), "test", 50 + seed, size=120)
            write_video(path, video.frames, fps=video.fps)
            found.setdefault(action, []).append(path)
    return found


@pytest.fixture
def name(http: httpx.Client) -> str:
    """A fresh vocabulary of words that mean nothing to the model."""
    name = f"examples-{secrets.token_hex(4)}"
    made = http.put(f"/v1/vocabularies/{name}", json={"labels": NEW_WORDS}, headers={"If-None-Match": "*"})
    assert made.status_code == 200
    return name


def label_ids(http: httpx.Client, name: str) -> list[str]:
    return [label["label_id"] for label in http.get(f"/v1/vocabularies/{name}").json()["labels"]]


def add(http: httpx.Client, name: str, label_id: str, paths: list[Path], *, version: int) -> httpx.Response:
    files = [("video", (path.name, path.read_bytes())) for path in paths]
    url = f"/v1/vocabularies/{name}/labels/{label_id}/examples"
    return http.post(url, files=files, headers={"If-Match": f'"{version}"'})


def classify(http: httpx.Client, path: Path, **options: Any) -> dict[str, Any]:
    with path.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def numbers(answer: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    return sorted((item["label"], item["score"], item["logit"], item["cosine"]) for item in answer["results"])


def test_examples_name_what_text_cannot_and_removing_them_restores_the_numbers(
    http: httpx.Client, name: str, clips: dict[str, list[Path]]
) -> None:
    before = {action: classify(http, clips[action][3], vocabulary=name) for action in ACTIONS}
    assert all(answer["examples"] is None for answer in before.values())
    ids = label_ids(http, name)
    for version, (label_id, action) in enumerate(zip(ids, ACTIONS, strict=True), start=1):
        added = add(http, name, label_id, clips[action][:3], version=version)
        assert added.status_code == 200, added.text
        assert [item["filename"] for item in added.json()["examples"]] == [path.name for path in clips[action][:3]]
    after = {action: classify(http, clips[action][3], vocabulary=name) for action in ACTIONS}
    assert [answer["results"][0]["label"] for answer in after.values()] == NEW_WORDS
    facts = after["bowing"]["examples"]
    assert (facts["num_examples"], facts["chosen_by"], facts["accuracy"]) == (9, "leave_one_out", 1.0)
    assert facts["accuracy_by_text"] < 1.0 and facts["weight"] > 0
    for action, answer in after.items():  # text and examples are reported apart: the cosine stays what it was
        assert [row[3] for row in numbers(answer)] == [row[3] for row in numbers(before[action])]
    assert numbers(classify(http, clips["bowing"][3], vocabulary=f"{name}@1")) == numbers(before["bowing"])

    first = http.get(f"/v1/vocabularies/{name}/labels/{ids[0]}/examples").json()
    assert (first["label"], len(first["examples"])) == (NEW_WORDS[0], 3)
    one = first["examples"][0]["example_id"]
    gone = http.delete(f"/v1/vocabularies/{name}/labels/{ids[0]}/examples/{one}", headers={"If-Match": '"4"'})
    assert (gone.status_code, gone.json()["note"]) == (200, "examples removed")
    for version, label_id in enumerate(ids, start=5):
        url = f"/v1/vocabularies/{name}/labels/{label_id}/examples"
        assert http.delete(url, headers={"If-Match": f'"{version}"'}).status_code == 200
    for action in ACTIONS:
        assert numbers(classify(http, clips[action][3], vocabulary=name)) == numbers(before[action])
    again = http.post(f"/v1/vocabularies/{name}:rollback", json={"version": 4}, headers={"If-Match": '"8"'})
    assert again.status_code == 200
    assert numbers(classify(http, clips["bowing"][3], vocabulary=name)) == numbers(after["bowing"])


def test_what_cannot_be_an_example_changes_nothing(
    http: httpx.Client, name: str, clips: dict[str, list[Path]], tmp_path: Path
) -> None:
    label_id = label_ids(http, name)[0]
    broken = tmp_path / "page.mp4"
    broken.write_text("<!doctype html><p>not found</p>")
    clip = clips["bowing"][0]

    def refused(response: httpx.Response, status: int, words: str) -> None:
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
        assert words in response.json()["detail"]

    refused(add(http, name, label_id, [clip, broken], version=1), 415, "HTML page")
    refused(add(http, name, label_id, [clip, clip], version=1), 422, "already")
    refused(add(http, name, label_id, [clip], version=7), 412, "version 1")
    refused(add(http, name, "absent", [clip], version=1), 404, "no label 'absent'")
    assert add(http, name, "absent", [clip], version=1).json()["type"] == "/problems/unknown-label"
    refused(add(http, name, label_id, [clip] * 70, version=1), 422, "more than 64 parts")
    url = f"/v1/vocabularies/{name}/labels/{label_id}/examples"
    refused(http.post(url, files={"video": clip.read_bytes()}), 428, "If-Match")
    refused(http.delete(url, headers={"If-Match": '"1"'}), 404, "no examples")
    refused(http.delete(f"{url}/none", headers={"If-Match": '"1"'}), 404, "no example 'none'")
    absent = http.delete(f"{url}/none", headers={"If-Match": '"1"'})
    assert absent.json()["type"] == "/problems/unknown-example"
    refused(
        http.post(url, files={"file": clip.read_bytes()}, headers={"If-Match": '"1"'}),
        422,
        "unknown form field `file`; allowed: video",
    )
    assert http.get(f"/v1/vocabularies/{name}").headers["etag"] == '"1"'


def test_a_raw_body_is_an_example_and_other_edits_keep_it(
    http: httpx.Client, name: str, clips: dict[str, list[Path]]
) -> None:
    label_id = label_ids(http, name)[1]
    body = clips["kicking"][0].read_bytes()
    headers = {"Content-Type": "video/mp4", "If-Match": '"1"'}
    assert http.post(f"/v1/vocabularies/{name}/labels/gribbing/examples", content=body, headers=headers).is_success
    patch = {"rename": [{"label": "gribbing", "to": "grobbing"}], "add": ["x"]}
    assert http.patch(f"/v1/vocabularies/{name}", json=patch, headers={"If-Match": '"2"'}).is_success
    exported = http.get(f"/v1/vocabularies/{name}:export").json()
    assert [len(label["examples"]) for label in exported["labels"]] == [0, 1, 0, 0]
    assert http.put(f"/v1/vocabularies/{name}", json=exported, headers={"If-Match": '"3"'}).is_success
    found = http.get(f"/v1/vocabularies/{name}/labels/{label_id}/examples").json()
    assert (found["label"], len(found["examples"])) == ("grobbing", 1)
    exported["labels"][0]["examples"] = found["examples"]  # of another label
    refused = http.put(f"/v1/vocabularies/{name}", json=exported, headers={"If-Match": '"4"'})
    assert (refused.status_code, "added by POST" in refused.json()["detail"]) == (422, True)
    old, new = (
        http.get(f"/v1/vocabularies/{name}:diff", params={"from": a, "to": b}).json() for a, b in [(1, 2), (3, 4)]
    )
    assert (old["changed"], new["changed"]) == (["gribbing"], [])


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Any]:
    """Starts servers on one store, each with a cache of its own, so that what is kept is kept by the store."""

    def start(cache: str, **variables: str) -> Any:
        folders = {"SERVE_DATA_DIR": str(tmp_path / "data"), "SERVE_CACHE_DIR": str(tmp_path / cache)}
        return running_server(tmp_path / cache, **folders, **variables)

    yield start


def client(server: RunningServer) -> httpx.Client:
    return httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS)


def test_a_restart_without_its_cache_encodes_the_examples_again(
    restarted: Any, clips: dict[str, list[Path]], tmp_path: Path
) -> None:
    with restarted("one") as server, client(server) as http:
        http.put("/v1/vocabularies/new", json={"labels": NEW_WORDS}, headers={"If-None-Match": "*"})
        for version, (label_id, action) in enumerate(zip(label_ids(http, "new"), ACTIONS, strict=True), start=1):
            assert add(http, "new", label_id, clips[action][:2], version=version).is_success
        before = classify(http, clips["kicking"][3], vocabulary="new")
        server.process.kill()
    with restarted("two") as server, client(server) as http:
        after = classify(http, clips["kicking"][3], vocabulary="new")
        assert numbers(after) == numbers(before)
        assert after["examples"] == before["examples"]
        http.delete("/v1/vocabularies/new", headers={"If-Match": "*"})
