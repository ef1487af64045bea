"""Search in stored videos through a server: by text, by a part of a video, by a clip."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.retrieval.conftest import answered, problem, sent
from tests.tolerances import DOT, tolerance

JACKS, CLAPPING = "a person in blue doing jumping jacks", "a person in purple clapping"
SAME = tolerance(1.0, terms=DOT)


@pytest.fixture
def stored(client: httpx.Client, actions: Path, demo_clip: Path) -> dict[str, str]:
    options: dict[str, Any] = {"window_seconds": 1, "stride_seconds": 1, "store": True}
    return {
        "actions": answered(sent(client, "timeline", actions, tags=["two"], **options))["video_id"],
        "walking": answered(sent(client, "timeline", demo_clip, tags=["one"], **options))["video_id"],
    }


def test_a_text_finds_the_windows_that_show_it(client: httpx.Client, stored: dict[str, str]) -> None:
    for text, start, end in ((JACKS, 0.0, 4.0), (CLAPPING, 4.0, 8.0)):
        found = answered(client.get("/v1/search", params={"q": text, "top_k": 3}))
        assert len(found["results"]) == 3
        for row in found["results"]:
            assert row["video_id"] == stored["actions"]
            assert start <= row["start_seconds"] < row["end_seconds"] <= end
        cosines = [row["cosine"] for row in found["results"]]
        assert cosines == sorted(cosines, reverse=True)
    walking = answered(client.get("/v1/search", params={"q": "a person in red walking to the left", "top_k": 1}))
    assert walking["results"][0]["video_id"] == stored["walking"]
    assert walking["scored_by_cosine"]


def test_the_cosine_is_that_of_a_classification(client: httpx.Client, stored: dict[str, str]) -> None:
    found = answered(client.get("/v1/search", params={"q": JACKS, "top_k": 1000}))
    by_window = {(row["video_id"], row["start_seconds"]): row["cosine"] for row in found["results"]}
    assert len(by_window) == found["num_windows"]
    options = {"candidate_labels": [JACKS, CLAPPING], "view": "windows", "top_k": 2}
    for video_id in stored.values():
        for window in answered(client.post(f"/v1/videos/{video_id}:timeline", json=options))["windows"]:
            cosine = next(row["cosine"] for row in window["results"] if row["label"] == JACKS)
            assert by_window.pop((video_id, window["start_seconds"])) == pytest.approx(cosine, abs=SAME)
    assert not by_window


def test_a_filter_holds_for_a_search(client: httpx.Client, stored: dict[str, str]) -> None:
    def videos(**query: str) -> set[str]:
        found = answered(client.get("/v1/search", params={"q": JACKS, "top_k": "1000", **query}))
        return {row["video_id"] for row in found["results"]}

    assert videos() == set(stored.values())
    assert videos(tag="one") == {stored["walking"]}
    assert videos(tag="none") == set()
    assert videos(created_after="2100-01-01T00:00:00Z") == set()
    created = answered(client.get(f"/v1/videos/{stored['walking']}"))["created_at"]
    assert videos(created_before=created) == {stored["actions"]}


def test_a_part_of_a_video_finds_windows_like_it(client: httpx.Client, stored: dict[str, str]) -> None:
    for start, end in ((0.0, 4.0), (4.0, 8.0)):
        body = {"video_id": stored["actions"], "start_seconds": start, "end_seconds": end, "top_k": 3}
        found = answered(client.post("/v1/search", json=body))
        assert len(found["results"]) == 3
        for row in found["results"]:
            assert row["video_id"] == stored["actions"]
            assert start <= row["start_seconds"] < row["end_seconds"] <= end
    one = {"video_id": stored["actions"], "start_seconds": 2.0, "end_seconds": 3.0, "top_k": 1}
    (row,) = answered(client.post("/v1/search", json=one))["results"]
    assert (row["start_seconds"], row["end_seconds"]) == (2.0, 3.0)
    assert row["cosine"] == pytest.approx(1.0, abs=SAME)


def test_a_clip_finds_itself(client: httpx.Client, stored: dict[str, str], demo_clip: Path) -> None:
    for response in (
        sent(client, "search", demo_clip, top_k=1),
        client.post("/v1/search?top_k=1", content=demo_clip.read_bytes(), headers={"Content-Type": "video/mp4"}),
    ):
        (row,) = answered(response)["results"]
        assert row["video_id"] == stored["walking"]


def test_an_empty_store_has_no_windows(client: httpx.Client, demo_clip: Path) -> None:
    for response in (client.get("/v1/search?q=walking"), sent(client, "search", demo_clip)):
        found = answered(response)
        assert (found["num_windows"], found["results"]) == (0, [])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (422, "invalid-option")),
        ("q=", (422, "invalid-vocabulary")),
        ("q=%20", (422, "invalid-vocabulary")),
        ("q=a%00b", (422, "invalid-option")),
        ("q=" + "a" * 501, (422, "invalid-vocabulary")),
        ("q=a&top_k=0", (422, "invalid-option")),
        ("q=a&top_k=1001", (422, "invalid-option")),
        ("q=a&tag=%20", (422, "invalid-option")),
        ("q=a&tags=b", (422, "invalid-option")),
        ("q=a&model=absent", (404, "unknown-model")),
        ("q=a&created_after=now", (422, "invalid-option")),
    ],
)
def test_a_search_that_means_nothing_is_refused(client: httpx.Client, query: str, expected: tuple[int, str]) -> None:
    assert problem(client.get(f"/v1/search?{query}")) == expected
