"""Merge windows into segments, one window at a time: hysteresis, gaps and a minimum length.

A label's segment opens when its value reaches the upper threshold, and it continues while the value is at or above the
lower threshold. Windows below the lower threshold are bridged if the value returns to it within the allowed gap.
Segments shorter than the minimum are dropped. Labels are independent, so segments of different labels may overlap, and
parts of the video may have no segment.

Only the state of each label is stored, so memory does not grow with the number of windows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array, Float64Array, Int64Array
from serve.video.windows import Window

TIME_TOLERANCE_SECONDS = 1e-6  # cell edges are rounded sums, so equal lengths may differ slightly


@dataclass(frozen=True, kw_only=True)
class SegmentRule:
    """When a label's segment opens, continues and closes; thresholds are common to all labels, or one per label [K]."""

    on: Float32Array | float  # a segment opens at or above this value
    off: Float32Array | float  # a segment continues at or above this value; not greater than `on`
    min_segment_seconds: float
    gap_seconds: float


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of a label; the ranges are half open."""

    label: int  # index in the vocabulary
    start_seconds: float
    end_seconds: float
    start_frame: int
    end_frame: int
    score: float  # mean over the windows of the segment
    peak_seconds: float  # centre of the window with the highest score


class Segmenter:
    """Merges windows, in ascending order, into segments of K labels."""

    def __init__(self, num_labels: int, rule: SegmentRule) -> None:
        self._rule = rule
        self._closed: list[Segment] = []
        self._is_open: NDArray[np.bool_] = np.zeros(num_labels, np.bool_)
        self._start: Float64Array = np.zeros(num_labels)
        self._end: Float64Array = np.zeros(num_labels)  # of the last window at or above the lower threshold
        self._start_frame: Int64Array = np.zeros(num_labels, np.int64)
        self._end_frame: Int64Array = np.zeros(num_labels, np.int64)
        self._sum: Float64Array = np.zeros(num_labels)
        self._count: Int64Array = np.zeros(num_labels, np.int64)
        self._peak: Float64Array = np.zeros(num_labels)
        self._peak_seconds: Float64Array = np.zeros(num_labels)

    def add(
        self,
        window: Window,
        values: Float32Array,
        scores: Float32Array,
        *,
        may_open: NDArray[np.bool_] | None = None,
        may_continue: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add a window with the values [K] to compare with the thresholds, and the scores [K] to report.

        `may_open` [K] and `may_continue` [K] restrict which labels can open or continue a segment in this window.
        """
        is_above_off = values >= self._rule.off
        is_above_on = values >= self._rule.on
        if may_continue is not None:
            is_above_off &= may_continue
        is_above_on &= is_above_off if may_open is None else is_above_off & may_open
        gap_seconds = window.cell_end_seconds - self._end
        self._close(self._is_open & ~is_above_off & (gap_seconds > self._rule.gap_seconds + TIME_TOLERANCE_SECONDS))
        opens = is_above_on & ~self._is_open
        self._start[opens], self._start_frame[opens] = window.cell_start_seconds, window.cell_start_frame
        self._sum[opens], self._count[opens], self._peak[opens] = 0.0, 0, -np.inf
        self._is_open |= opens
        continues = self._is_open & is_above_off
        self._end[continues], self._end_frame[continues] = window.cell_end_seconds, window.cell_end_frame
        self._sum[continues] += scores[continues]
        self._count[continues] += 1
        is_peak = continues & (scores > self._peak)
        self._peak[is_peak], self._peak_seconds[is_peak] = scores[is_peak], window.centre_seconds

    def finish(self) -> list[Segment]:
        """Close all segments and return them, sorted by start and then by label."""
        self._close(self._is_open.copy())
        return sorted(self._closed, key=lambda item: (item.start_seconds, item.label))

    def _close(self, closes: NDArray[np.bool_]) -> None:
        """Close the segments of the labels in the mask [K]."""
        self._closed += self._make_segments(np.flatnonzero(closes))
        self._is_open &= ~closes

    def _make_segments(self, labels: Int64Array) -> Iterator[Segment]:
        """Yield the segments of labels, without those that are too short."""
        for k in labels.tolist():
            length = self._end[k] - self._start[k]
            if length >= self._rule.min_segment_seconds - TIME_TOLERANCE_SECONDS:
                yield Segment(
                    label=k,
                    start_seconds=float(self._start[k]),
                    end_seconds=float(self._end[k]),
                    start_frame=int(self._start_frame[k]),
                    end_frame=int(self._end_frame[k]),
                    score=float(self._sum[k] / self._count[k]),
                    peak_seconds=float(self._peak_seconds[k]),
                )
