"""Hysteresis, gaps, minimum length, overlapping labels: segments of windows with given values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from serve.timeline.segments import Segment, Segmenter, SegmentRule
from serve.video.windows import Window


def window(number: int, *, fps: int = 10) -> Window:
    """One second wide; its cell is the same second."""
    second = float(number)
    return Window(
        start_seconds=second, end_seconds=second + 1, start_frame=fps * number, end_frame=fps * (number + 1),
        cell_start_seconds=second, cell_end_seconds=second + 1,
        cell_start_frame=fps * number, cell_end_frame=fps * (number + 1), frame_indices=(fps * number,),
    )  # fmt: skip


def segments(*values: Sequence[float], may_open: Any = None, may_continue: Any = None, **changes: Any) -> list[Segment]:
    """The segments of labels, given the value of each in every second."""
    rule = {"on": 0.5, "off": 0.25, "min_segment_seconds": 0.0, "gap_seconds": 0.0, **changes}
    segmenter = Segmenter(len(values), SegmentRule(**rule))
    for number, column in enumerate(np.array(values, np.float32).T):
        opens, lasts = (
            None if rows is None else np.array([row[number] for row in rows]) for rows in (may_open, may_continue)
        )
        segmenter.add(window(number), column, column, may_open=opens, may_continue=lasts)
    return segmenter.finish()


def spans(found: list[Segment]) -> list[tuple[int, float, float]]:
    return [(item.label, item.start_seconds, item.end_seconds) for item in found]


def test_a_segment_opens_at_the_upper_threshold_and_closes_below_the_lower_one() -> None:
    assert spans(segments([0.3, 0.5, 0.25, 0.24, 0.3, 0.1])) == [(0, 1.0, 3.0)]


def test_values_between_the_thresholds_alone_open_nothing() -> None:
    assert segments([0.4, 0.49, 0.4]) == []


@pytest.mark.parametrize(("gap", "expected"), [
    (0.0, [(0, 0.0, 1.0), (0, 3.0, 4.0)]), (1.9, [(0, 0.0, 1.0), (0, 3.0, 4.0)]), (2.0, [(0, 0.0, 4.0)]),
])  # fmt: skip
def test_a_gap_up_to_the_allowed_one_is_bridged(gap: float, expected: list[tuple[int, float, float]]) -> None:
    assert spans(segments([0.9, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0], gap_seconds=gap)) == expected


def test_a_gap_at_the_end_does_not_lengthen_a_segment() -> None:
    assert spans(segments([0.9, 0.0], gap_seconds=5.0)) == [(0, 0.0, 1.0)]


def test_short_segments_are_dropped() -> None:
    assert spans(segments([0.9, 0.0, 0.9, 0.9, 0.0], min_segment_seconds=2.0)) == [(0, 2.0, 4.0)]


def test_segments_of_labels_overlap_and_are_sorted_by_start() -> None:
    assert spans(segments([0.1, 0.9, 0.9], [0.9, 0.9, 0.0])) == [(1, 0.0, 2.0), (0, 1.0, 3.0)]


def test_a_label_behind_none_of_the_labels_is_a_gap() -> None:
    may_continue = [[True, False, True]]
    assert spans(segments([0.9, 0.9, 0.9], may_continue=may_continue)) == [(0, 0.0, 1.0), (0, 2.0, 3.0)]


def test_a_label_that_may_not_open_lasts_once_it_is_open() -> None:
    may_open = [[False, True, False]]
    assert spans(segments([0.9, 0.9, 0.9], may_open=may_open)) == [(0, 1.0, 3.0)]


def test_thresholds_of_labels_apply_to_their_label() -> None:
    rule = {"on": np.array([0.5, 0.9], np.float32), "off": np.array([0.25, 0.45], np.float32)}
    assert spans(segments([0.6, 0.6], [0.6, 0.6], **rule)) == [(0, 0.0, 2.0)]


def test_a_segment_reports_mean_peak_and_frames() -> None:
    (found,) = segments([0.0, 0.5, 1.0, 0.3, 0.0])
    assert found.score == pytest.approx(0.6)
    assert found.peak_seconds == 2.5
    assert (found.start_frame, found.end_frame) == (10, 40)


def test_a_video_that_ends_inside_a_segment_ends_it() -> None:
    assert spans(segments([0.0, 0.9])) == [(0, 1.0, 2.0)]
