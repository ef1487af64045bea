"""Stored videos through a server: the numbers of the direct answers, lists, deletion, expiry, refusals."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.videos.half_precision import MAX_RELATIVE_ERROR
from tests.running_server import RunningServer, running_server
from tests.serve.retrieval.conftest import answered, problem, sent
from tests.synthetic_video import make_picture
from tests.tolerances import DOT, tolerance
from tests.waiting import PATIENCE_SECONDS, eventually

LABELS = ["a person in blue doing jumping jacks", "a person in purple clapping", "a person in red bowing"]
SCALE = 28.4  # largest logit of the demo model
SAME = tolerance(SCALE, terms=DOT)  # the same features, in products of other sizes
TIMES = ("timing_ms", "video_id")


def results(answer: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    return {row["label"]: (row["score"], row["logit"], row["cosine"]) for row in answer["results"]}


def assert_same(found: dict[str, Any], expected: dict[str, Any], *, limit: float = SAME) -> None:
    assert results(found).keys() == results(expected).keys()
    for label, numbers in results(expected).items():
        assert results(found)[label] == pytest.approx(numbers, abs=limit)


def test_a_stored_classification_is_scored_as_it_was(client: httpx.Client, demo_clip: Path) -> None:
    direct = answered(sent(client, "classify", demo_clip, store=True, top_k=20, num_clips=2, num_crops=3))
    url = f"/v1/videos/{direct['video_id']}:classify"
    again = answered(client.post(url, json={"top_k": 20}))
    assert again["num_windows"] == 6
    assert_same(again, direct)
    assert {name: again[name] for name in ("model", "vocabulary", "sampling", "notice")} == {
        name: direct[name] for name in ("model", "vocabulary", "sampling", "notice")
    }
    other = answered(client.post(url, json={"candidate_labels": LABELS, "function_to_apply": "sigmoid"}))
    options = {"candidate_labels": LABELS, "function_to_apply": "sigmoid", "num_clips": 2, "num_crops": 3}
    plain = answered(sent(client, "classify", demo_clip, **options))
    assert plain["video_id"] is None
    assert_same(other, plain, limit=SCALE * MAX_RELATIVE_ERROR + SAME)  # features with and without float16
    assert other["vocabulary"] is None


def test_a_stored_timeline_is_made_as_it_was(client: httpx.Client, actions: Path) -> None:
    options: dict[str, Any] = {"view": "both", "top_k": 4, "window_seconds": 1, "stride_seconds": 0.5}
    direct = answered(sent(client, "timeline", actions, store=True, **options))
    url = f"/v1/videos/{direct['video_id']}:timeline"
    again = answered(client.post(url, json={"view": "both", "top_k": 4}))
    assert direct["segments"]
    assert len(direct["windows"]) == 15
    for ours, theirs in zip(again["windows"], direct["windows"], strict=True):
        assert_same(ours, theirs)
        for name in ("start_seconds", "end_seconds", "start_frame", "end_frame"):
            assert ours[name] == theirs[name]
    for ours, theirs in zip(again["segments"], direct["segments"], strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], abs=SAME)
        assert {**ours, "score": 0} == {**theirs, "score": 0}
    unlike = ("windows", "segments", "timing_ms")
    assert {name: value for name, value in again.items() if name not in unlike} == {
        name: value for name, value in direct.items() if name not in unlike
    }
    named = answered(client.post(url, json={"candidate_labels": LABELS, "threshold_on": 0.6}))
    assert [segment["label"] for segment in named["segments"]] == LABELS[:2]
    google = answered(client.post(url, json={"format": "google-video-intelligence"}))
    assert google["annotationResults"]


def test_windows_are_classified_together(client: httpx.Client, actions: Path) -> None:
    options: dict[str, Any] = {"window_seconds": 2, "stride_seconds": 2, "candidate_labels": LABELS}
    stored = answered(sent(client, "timeline", actions, store=True, view="windows", top_k=3, **options))
    together = answered(client.post(f"/v1/videos/{stored['video_id']}:classify", json={"candidate_labels": LABELS}))
    assert together["sampling"] is None
    count = len(stored["windows"])
    for label, numbers in results(together).items():
        means = [sum(results(window)[label][place] for window in stored["windows"]) / count for place in range(3)]
        assert numbers == pytest.approx(means, abs=SAME)  # the model's rule: the mean of the probabilities of views


def test_a_video_is_listed_with_its_facts(client: httpx.Client, demo_clip: Path) -> None:
    options: dict[str, Any] = {"store": True, "tags": ["kitchen", " red "], "expires_in_seconds": 3600}
    video_id = answered(sent(client, "classify", demo_clip, filename="../walking 🚶.mp4", **options))["video_id"]
    shown = answered(client.get(f"/v1/videos/{video_id}"))
    assert (shown["kind"], shown["model"], shown["stale"], shown["num_windows"]) == ("clips", "demo@1", False, 1)
    assert shown["tags"] == ["kitchen", "red"]
    assert shown["source"]["num_bytes"] == demo_clip.stat().st_size
    assert "walking 🚶.mp4" in shown["source"]["filename"]
    assert shown["expires_at"] > shown["created_at"]
    for query, count in (
        ("", 1), ("?tag=kitchen", 1), ("?tag=bath", 0), ("?model=demo", 1), ("?model=demo@1", 1), ("?model=demo@2", 0),
        ("?created_after=2000-01-01T00:00:00Z", 1), ("?created_before=2000-01-01T00:00:00Z", 0),
    ):  # fmt: skip
        page = answered(client.get(f"/v1/videos{query}"))
        assert page["videos"] == [shown] * count, query


def test_pages_hold_every_video_once(client: httpx.Client, tmp_path: Path) -> None:
    picture = make_picture(tmp_path / "still.png")
    stored = {answered(sent(client, "classify", picture, store=True, tags=["p"]))["video_id"] for _ in range(5)}
    for ask in (
        lambda token: client.get("/v1/videos", params={"page_size": 2, "tag": "p", **token}),
        lambda token: client.post("/v1/videos:classify", json={"page_size": 2, "tag": "p", **token}),
    ):
        found, token = [], {}
        for _ in range(3):
            page = answered(ask(token))
            found += [row["video_id"] for row in page["videos"]]
            token = {"page_token": page["next_page_token"]}
        assert token == {"page_token": None}
        assert sorted(found) == sorted(stored)


def test_all_videos_are_scored_like_each(client: httpx.Client, demo_clip: Path, actions: Path) -> None:
    stored = [
        answered(sent(client, "classify", demo_clip, store=True, tags=["a"]))["video_id"],
        answered(sent(client, "timeline", actions, store=True, tags=["b"]))["video_id"],
    ]
    for options in ({}, {"candidate_labels": LABELS}, {"function_to_apply": "none", "top_k": 3}):
        page = answered(client.post("/v1/videos:classify", json=options))
        assert page["num_stale"] == 0
        for row in page["videos"]:
            assert_same(row, answered(client.post(f"/v1/videos/{row['video_id']}:classify", json=options)))
        assert [row["video_id"] for row in page["videos"]] == stored[::-1]
    assert [row["video_id"] for row in answered(client.post("/v1/videos:classify", json={"tag": "a"}))["videos"]] == [
        stored[0]
    ]
    client.delete(f"/v1/videos/{stored[0]}").raise_for_status()
    rest = answered(client.post("/v1/videos:classify", json={}))
    assert [row["video_id"] for row in rest["videos"]] == stored[1:]


def test_examples_of_a_vocabulary_add_to_stored_videos(client: httpx.Client, demo_clip: Path, actions: Path) -> None:
    made = client.put("/v1/vocabularies/shown", json={"labels": LABELS}, headers={"If-None-Match": "*"})
    label_id = answered(client.get("/v1/vocabularies/shown"))["labels"][2]["label_id"]
    added = client.post(
        f"/v1/vocabularies/shown/labels/{label_id}/examples",
        files={"video": ("a.mp4", demo_clip.read_bytes())},
        headers={"If-Match": made.headers["etag"], "Prefer": "wait=300"},
    )
    assert added.status_code == 200, added.text
    direct = answered(sent(client, "classify", demo_clip, store=True, vocabulary="shown"))
    again = answered(client.post(f"/v1/videos/{direct['video_id']}:classify", json={"vocabulary": "shown"}))
    assert direct["examples"] is not None and again["examples"] == direct["examples"]
    assert_same(again, direct)
    assert_same(answered(client.post("/v1/videos:classify", json={"vocabulary": "shown"}))["videos"][0], direct)
    stored = answered(sent(client, "timeline", actions, store=True, vocabulary="shown", view="windows"))
    made_again = answered(
        client.post(f"/v1/videos/{stored['video_id']}:timeline", json={"vocabulary": "shown", "view": "windows"})
    )
    for ours, theirs in zip(made_again["windows"], stored["windows"], strict=True):
        assert_same(ours, theirs)
    deleted = client.delete("/v1/vocabularies/shown", headers={"If-Match": "*"})
    assert deleted.status_code == 204


def test_a_job_stores_its_inputs(client: httpx.Client, demo_clip: Path, actions: Path) -> None:
    files = [("video", (path.name, path.read_bytes())) for path in (demo_clip, actions)]
    fields = {"kind": "timeline", "options": json.dumps({"store": True, "tags": ["job"], "candidate_labels": LABELS})}
    job = client.post("/v1/jobs", files=files, data=fields)
    assert job.status_code == 202, job.text
    url = job.headers["location"]
    assert eventually(lambda: client.get(url).json()["status"] == "completed")
    stored = {
        row["video_id"]: row["source"]["filename"] for row in answered(client.get("/v1/videos?tag=job"))["videos"]
    }
    assert sorted(stored.values()) == sorted([demo_clip.name, actions.name])
    for line in client.get(f"{url}/output").text.splitlines():
        assert json.loads(line)["result"]["video_id"] in stored
    refused = client.post("/v1/jobs", files=files, data={"kind": "classify", "options": json.dumps({"tags": ["a"]})})
    assert problem(refused) == (422, "invalid-option")


def test_deleting_leaves_no_trace_in_the_files(client: httpx.Client, server: RunningServer, demo_clip: Path) -> None:
    secret = "a name that nobody may find"
    kept = answered(sent(client, "classify", demo_clip, store=True))["video_id"]
    video_id = answered(sent(client, "classify", demo_clip, filename=secret, store=True, tags=["tag-to-forget"]))[
        "video_id"
    ]
    answered(client.get("/v1/search?q=walking"))
    folder = Path(_data_dir(server))

    def found() -> set[bytes]:
        content = b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        return {trace for trace in (secret.encode(), b"tag-to-forget", video_id.encode()) if trace in content}

    assert len(found()) == 3
    assert client.delete(f"/v1/videos/{video_id}").status_code == 204
    assert found() == set()
    for ask in (
        lambda: client.get(f"/v1/videos/{video_id}"),
        lambda: client.delete(f"/v1/videos/{video_id}"),
        lambda: client.post(f"/v1/videos/{video_id}:classify", json={}),
        lambda: client.post(f"/v1/videos/{video_id}:timeline", json={}),
        lambda: client.post("/v1/search", json={"video_id": video_id}),
    ):
        assert problem(ask()) == (404, "unknown-video")
    hits = answered(client.get("/v1/search?q=walking"))
    assert [row["video_id"] for row in hits["results"]] == [kept]
    log = "".join(server.log)
    assert "DELETE /v1/videos/{video_id} 204" in log
    for word in (secret, "tag-to-forget", "walking", video_id):
        assert word not in log


def _data_dir(server: RunningServer) -> str:
    environment = Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
    return next(item for item in environment if item.startswith(b"SERVE_DATA_DIR=")).partition(b"=")[2].decode()


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "tags without store": ("classify", {"tags": ["a"]}, "`tags` needs `store`"),
    "an expiry without store": ("timeline", {"expires_in_seconds": 60}, "`expires_in_seconds` needs `store`"),
    "an expiry of zero": ("classify", {"store": True, "expires_in_seconds": 0}, "expires_in_seconds"),
    "an expiry beyond ten years": ("classify", {"store": True, "expires_in_seconds": 10**9}, "expires_in_seconds"),
    "an empty tag": ("classify", {"store": True, "tags": [" "]}, "1 to 64 characters"),
    "a long tag": ("classify", {"store": True, "tags": ["a" * 65]}, "1 to 64 characters"),
    "too many tags": ("classify", {"store": True, "tags": [str(number) for number in range(33)]}, "at most 32"),
    "another shape": ("timeline", {"store": True, "format": "google-video-intelligence"}, "is not available"),
    "a kept source": ("classify", {"store": True, "keep_source": True}, "keep_source"),
}


@pytest.mark.parametrize(("route", "options", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_an_option_of_storing_that_means_nothing_is_refused(
    client: httpx.Client, demo_clip: Path, route: str, options: dict[str, Any], words: str
) -> None:
    response = sent(client, route, demo_clip, **options)
    assert problem(response) == (422, "invalid-option")
    assert words in response.json()["detail"]
    assert answered(client.get("/v1/videos"))["videos"] == []


def test_an_option_of_decoding_is_refused_for_a_stored_video(
    client: httpx.Client, actions: Path, demo_clip: Path
) -> None:
    windows = answered(sent(client, "timeline", actions, store=True))["video_id"]
    clips = answered(sent(client, "classify", demo_clip, store=True))["video_id"]
    for route, body in (
        (f"videos/{windows}:timeline", {"window_seconds": 2}), (f"videos/{windows}:timeline", {"stride_seconds": 1}),
        (f"videos/{windows}:timeline", {"relevance": True}), (f"videos/{windows}:timeline", {"store": True}),
        (f"videos/{windows}:timeline", {"top_k": 3}), (f"videos/{windows}:classify", {"num_clips": 2}),
        (f"videos/{clips}:timeline", {}), (f"videos/{clips}:classify", {"threshold": 0.5, "function_to_apply": "none"}),
        ("videos:classify", {"page_token": "nonsense"}), ("videos:classify", {"page_size": 0}),
        ("videos:classify", {"created_after": "yesterday"}),
        ("videos:classify", {"created_after": "2026-01-01T00:00:00"}),
        ("videos:classify", {"created_after": "0001-01-01T00:00:00+14:00"}), ("search", {"video_id": clips, "q": "a"}),
        ("search", {"video_id": windows, "start_seconds": 3, "end_seconds": 3}),
        ("search", {"video_id": windows, "start_seconds": 900}), ("search", {}),
    ):  # fmt: skip
        assert problem(client.post(f"/v1/{route}", json=body)) == (422, "invalid-option"), (route, body)
    assert problem(client.post(f"/v1/videos/{clips}:classify", json={"vocabulary": "absent"}))[0] == 404
    assert problem(client.post(f"/v1/videos/{clips}:classify", json={"model": "absent"})) == (404, "unknown-model")
    assert problem(client.post(f"/v1/videos/{clips}:classify", content=b"{}"))[0] == 415
    for query in (
        "tag=%20",
        "created_after=yesterday",
        "page_token=nonsense",
        "created_before=0001-01-01T00:00:00%2B14:00",
    ):
        assert problem(client.get(f"/v1/videos?{query}")) == (422, "invalid-option"), query


def test_expired_videos_are_swept_and_a_full_store_refuses(tmp_path: Path, demo_clip: Path) -> None:
    variables = {
        "SERVE_VIDEOS__SWEEP_SECONDS": "0.2", "SERVE_VIDEOS__MAX_BYTES": "700", "SERVE_VIDEOS__KEEP_SECONDS": "1",
    }  # fmt: skip
    with (
        running_server(tmp_path / "cache", SERVE_ENGINE="onnxruntime-cpu", **variables) as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client,
    ):
        data = Path(_data_dir(server))
        stored = answered(sent(client, "classify", demo_clip, filename="to-expire.mp4", store=True))["video_id"]
        crowded = [sent(client, "classify", demo_clip, store=True, expires_in_seconds=3600) for _ in range(3)]
        assert crowded[-1].status_code == 507
        assert problem(crowded[-1]) == (507, "video-store-full")
        assert eventually(lambda: client.get(f"/v1/videos/{stored}").status_code == 404)
        gone = lambda: not any(b"to-expire.mp4" in path.read_bytes() for path in data.glob("actserve.db*"))  # noqa: E731
        assert eventually(gone)
