"""Thresholds, temperature, background phrases and example clips of a vocabulary, applied to each window."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.timeline.conftest import Stitched

Put = Callable[..., str]


@pytest.fixture
def put(http: httpx.Client) -> Iterator[Put]:
    """Makes vocabularies, and deletes them afterwards."""
    names: list[str] = []

    def make(**body: Any) -> str:
        name = f"timeline-{len(names)}"
        response = http.put(f"/v1/vocabularies/{name}", json=body, headers={"If-None-Match": "*", "Prefer": "wait=300"})
        names.append(name)
        assert response.is_success, response.text
        return name

    yield make
    for name in names:
        assert http.delete(f"/v1/vocabularies/{name}", headers={"If-Match": "*"}).is_success


def segments(http: httpx.Client, path: Path, **options: Any) -> tuple[list[str], dict[str, Any]]:
    """The labels of the segments in order, and the whole answer."""
    with path.open("rb") as stream:
        response = http.post("/v1/timeline", files={"video": stream}, data=options)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return [item["label"] for item in answer["segments"]], answer


def test_a_label_has_its_own_threshold(http: httpx.Client, stitched: Stitched, put: Put) -> None:
    first, second, third = (label for label, _, _ in stitched.actions)
    strict = {"name": second, "threshold": 1.5}
    found, answer = segments(http, stitched.path, vocabulary=put(labels=[first, strict, third]))
    assert found == [first, third]
    assert answer["segment_rule"]["threshold_on"] is None
    assert answer["segment_rule"]["threshold_off"] is None


def test_a_threshold_of_the_request_takes_precedence(http: httpx.Client, stitched: Stitched, put: Put) -> None:
    labels = [label for label, _, _ in stitched.actions]
    name = put(labels=labels, acceptance={"threshold": 1.5})
    assert segments(http, stitched.path, vocabulary=name)[0] == []
    found, answer = segments(http, stitched.path, vocabulary=name, threshold_on=0.5)
    assert found == labels
    assert answer["segment_rule"]["threshold_off"] == 0.25


def test_thresholds_of_logits(http: httpx.Client, stitched: Stitched, put: Put) -> None:
    labels = [label for label, _, _ in stitched.actions]
    high = put(labels=labels, acceptance={"criterion": "logit", "threshold": 1000.0})
    low = put(labels=labels, acceptance={"criterion": "logit", "threshold": -1000.0})
    assert segments(http, stitched.path, vocabulary=high)[0] == []
    found, answer = segments(http, stitched.path, vocabulary=low)
    assert sorted(found) == sorted(labels)  # each all the time, over one another
    assert {(item["start_seconds"], item["end_seconds"]) for item in answer["segments"]} == {(0.0, 18.0)}


def test_a_temperature_flattens_the_scores(http: httpx.Client, stitched: Stitched, put: Put) -> None:
    labels = [label for label, _, _ in stitched.actions]
    name = put(labels=labels, acceptance={"temperature": 10_000.0})
    found, answer = segments(http, stitched.path, vocabulary=name, view="both")
    assert found == []
    scores = [result["score"] for window in answer["windows"] for result in window["results"]]
    assert scores == pytest.approx([1 / 3] * len(scores), abs=0.01)


def test_a_background_phrase_that_wins_is_a_gap(http: httpx.Client, stitched: Stitched, put: Put) -> None:
    first, second, third = (label for label, _, _ in stitched.actions)
    found, answer = segments(
        http, stitched.path, vocabulary=put(labels=[first, third], background=[second]), view="both"
    )
    assert found == [first, third]
    middle = [window for window in answer["windows"] if 7 <= window["start_seconds"] <= 9]
    assert all(window["none_of_these"] > 0.5 for window in middle)


def test_example_clips_name_actions_that_text_does_not(
    http: httpx.Client, stitched: Stitched, put: Put, tmp_path: Path
) -> None:
    from training.demo.captions import Combination
    from training.demo.videos import render_video, write_video

    words = ["zorp", "blick", "frum"]
    name = put(labels=words)
    shown = [("doing jumping jacks", "blue"), ("kicking", "green"), ("clapping", "purple")]
    for word, (action, colour) in zip(words, shown, strict=True):
        for seed in (31, 32, 33):
            clip = tmp_path / f"{word}{seed}.mp4"
            video = render_video(Combination(action, "", colour), "test", seed, size=160)
            write_video(clip, video.frames, fps=video.fps)
            with clip.open("rb") as stream:
                url = f"/v1/vocabularies/{name}/labels/{word}/examples"
                response = http.post(url, files={"video": stream}, headers={"If-Match": "*", "Prefer": "wait=300"})
            assert response.is_success, response.text
    found, answer = segments(http, stitched.path, vocabulary=name)
    assert found == words
    assert answer["examples"]["num_examples"] == 9
