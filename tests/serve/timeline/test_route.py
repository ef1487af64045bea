"""`POST /v1/timeline` with the demo model: segments, windows, shapes of the answer, refusals."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.timeline.options import TimelineOptions
from tests.serve.timeline.conftest import Stitched
from tests.synthetic_video import make_picture, make_truncated

TOLERANCE_SECONDS = 1.0  # half a window, which at a boundary shows as much of one action as of the next


def timeline(http: httpx.Client, path: Path, **options: Any) -> dict[str, Any]:
    response = asked(http, path, **options)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def asked(http: httpx.Client, path: Path, **options: Any) -> httpx.Response:
    with path.open("rb") as stream:
        return http.post("/v1/timeline", files={"video": stream}, data={"options": json.dumps(options)})


def test_each_action_is_a_segment_with_its_boundaries(http: httpx.Client, stitched: Stitched) -> None:
    answer = timeline(http, stitched.path)
    assert [item["label"] for item in answer["segments"]] == [label for label, _, _ in stitched.actions]
    for found, (_, start, end) in zip(answer["segments"], stitched.actions, strict=True):
        assert found["start_seconds"] == pytest.approx(start, abs=TOLERANCE_SECONDS)
        assert found["end_seconds"] == pytest.approx(end, abs=TOLERANCE_SECONDS)
        assert found["start_frame"] == pytest.approx(24 * found["start_seconds"], abs=1)
        assert found["end_frame"] == pytest.approx(24 * found["end_seconds"], abs=1)
        assert found["start_seconds"] <= found["peak_seconds"] <= found["end_seconds"]
    assert answer["windows"] is None
    assert answer["video"]["num_frames"] == 18 * 24
    assert answer["video"]["duration_seconds"] == pytest.approx(18.0)
    assert not answer["video"]["truncated"]
    assert (answer["window_seconds"], answer["stride_seconds"]) == (2.0, 0.5)
    rule = answer["segment_rule"]
    assert rule["threshold_on"] == pytest.approx(234**-0.4, abs=1e-6)
    assert (rule["best_label_opens"], rule["min_segment_seconds"], rule["gap_seconds"]) == (True, 2.0, 1.0)


def test_one_window_scores_as_a_classification(http: httpx.Client, demo_clip: Path) -> None:
    answer = timeline(http, demo_clip, window_seconds=60, view="windows", top_k=3)
    (window,) = answer["windows"]
    with demo_clip.open("rb") as stream:
        classified = http.post("/v1/classify", files={"video": stream}, data={"top_k": "3"}).json()
    for found, expected in zip(window["results"], classified["results"], strict=True):
        assert found["label"] == expected["label"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-6)  # the same frames through the same graph
    assert answer["segments"] is None
    assert answer["segment_rule"] is None


def test_a_video_shorter_than_a_window_is_one_segment(http: httpx.Client, demo_clip: Path) -> None:
    answer = timeline(http, demo_clip, window_seconds=60)
    duration = answer["video"]["duration_seconds"]
    spans = [(item["start_seconds"], item["end_seconds"]) for item in answer["segments"]]
    assert spans == [(0.0, duration)]
    assert answer["segments"][0]["label"] == "a person in red walking to the left"
    assert answer["segment_rule"]["min_segment_seconds"] == duration
    assert timeline(http, demo_clip, window_seconds=60, min_segment_seconds=60)["segments"] == []


def test_a_view_of_both_has_windows_that_overlap(http: httpx.Client, stitched: Stitched) -> None:
    answer = timeline(http, stitched.path, view="both", window_seconds=4, stride_seconds=2, top_k=2)
    starts = [window["start_seconds"] for window in answer["windows"]]
    assert starts == [0, 2, 4, 6, 8, 10, 12, 14]
    assert all(len(window["results"]) == 2 for window in answer["windows"])
    assert answer["num_windows"] == 8
    assert answer["segments"]


def test_labels_of_the_request_and_a_higher_threshold(http: httpx.Client, stitched: Stitched) -> None:
    labels = [label for label, _, _ in stitched.actions]
    answer = timeline(http, stitched.path, candidate_labels=labels, threshold_on=0.9, threshold_off=0.9)
    assert {item["label"] for item in answer["segments"]} <= set(labels)
    assert answer["vocabulary"] is None
    assert answer["segment_rule"]["threshold_off"] == 0.9
    assert not answer["segment_rule"]["best_label_opens"]


def test_a_long_minimum_leaves_no_segment(http: httpx.Client, stitched: Stitched) -> None:
    assert timeline(http, stitched.path, min_segment_seconds=10)["segments"] == []


def test_a_raw_body_has_its_options_in_the_query(http: httpx.Client, stitched: Stitched) -> None:
    response = http.post(
        "/v1/timeline?view=windows&window_seconds=6&stride_seconds=6",
        content=stitched.path.read_bytes(),
        headers={"content-type": "video/mp4"},
    )
    best = [window["results"][0]["label"] for window in response.json()["windows"]]
    assert best == [label for label, _, _ in stitched.actions]


def test_the_shape_of_google_video_intelligence(http: httpx.Client, stitched: Stitched) -> None:
    own = timeline(http, stitched.path, view="both")
    (result,) = timeline(http, stitched.path, view="both", format="google-video-intelligence")["annotationResults"]
    assert result["segment"] == {"startTimeOffset": "0s", "endTimeOffset": "18s"}
    found = {
        (item["entity"]["description"], part["segment"]["startTimeOffset"], part["segment"]["endTimeOffset"])
        for item in result["segmentLabelAnnotations"]
        for part in item["segments"]
    }
    assert found == {
        (item["label"], f"{item['start_seconds']:g}s", f"{item['end_seconds']:g}s") for item in own["segments"]
    }
    moments = sum(len(item["frames"]) for item in result["frameLabelAnnotations"])
    assert moments == sum(len(window["results"]) for window in own["windows"])


def test_a_video_that_breaks_off_has_a_timeline_up_to_there(http: httpx.Client, tmp_path: Path) -> None:
    answer = timeline(http, make_truncated(tmp_path / "cut.mp4", faststart=True), view="windows")
    assert answer["video"]["truncated"]
    assert answer["windows"][-1]["end_seconds"] == answer["video"]["duration_seconds"] < 2.0


def test_a_picture_has_no_timeline(http: httpx.Client, tmp_path: Path) -> None:
    response = asked(http, make_picture(tmp_path / "still.png"))
    assert (response.status_code, response.json()["type"]) == (422, "/problems/video-too-short")


REFUSED = {
    "an unknown option": {"windows": 3},
    "a window too short": {"window_seconds": 0.01},
    "no number": {"window_seconds": "long"},
    "not finite": {"window_seconds": "nan"},
    "a stride beyond the window": {"window_seconds": 1, "stride_seconds": 2},
    "a stride beyond the default window": {"stride_seconds": 3},
    "too much overlap": {"window_seconds": 100, "stride_seconds": 1},
    "top_k without windows": {"top_k": 3},
    "a threshold without segments": {"view": "windows", "threshold_on": 0.5},
    "a gap without segments": {"view": "windows", "gap_seconds": 1},
    "a lower threshold alone": {"threshold_off": 0.5},
    "a lower threshold above the upper": {"threshold_on": 0.4, "threshold_off": 0.5},
    "no function": {"function_to_apply": "none"},
    "an unknown view": {"view": "all"},
    "an unknown format": {"format": "aws"},
    "two sources of labels": {"vocabulary": "demo", "candidate_labels": ["a"]},
    "an option of classify": {"num_clips": 2},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED.keys())
def test_an_option_that_means_nothing_is_refused(http: httpx.Client, demo_clip: Path, options: dict[str, Any]) -> None:
    response = asked(http, demo_clip, **options)
    assert response.status_code == 422, response.text
    assert response.json()["type"] == "/problems/invalid-option"
    assert next(iter(options)) in response.json()["detail"]


def test_an_unknown_vocabulary_is_refused(http: httpx.Client, demo_clip: Path) -> None:
    assert asked(http, demo_clip, vocabulary="absent").status_code == 404


def test_the_document_has_every_option(http: httpx.Client) -> None:
    operation = http.get("/openapi.json").json()["paths"]["/v1/timeline"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(TimelineOptions.model_fields) <= form.keys()
    (query,) = (item for item in operation["parameters"] if item["in"] == "query")
    assert set(TimelineOptions.model_fields) == query["schema"]["properties"].keys()


def test_metrics_count_the_windows(http: httpx.Client, demo_clip: Path) -> None:
    def counted() -> float:
        lines = http.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("actserve_timeline_windows_total")).split()[1])

    before = counted()
    added = timeline(http, demo_clip)["num_windows"]
    assert counted() == before + added


def test_relevance_needs_a_frame_wise_model_and_one_label(http: httpx.Client, demo_clip: Path) -> None:
    refused = {
        "frames one by one": {"relevance": True, "relevance_label": "a person in red bowing"},  # not the demo model
        "relevance_label": {"relevance": True},
        "not one of the": {"relevance": True, "relevance_label": "flying"},
        "needs `relevance`": {"relevance_label": "a person in red bowing"},
        "not available": {"relevance": True, "format": "google-video-intelligence"},
    }
    for words, options in refused.items():
        response = asked(http, demo_clip, **options)
        assert response.status_code == 422
        assert words in response.json()["detail"]
