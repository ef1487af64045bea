"""From scores of windows to segments: hysteresis, gaps and a minimum length, one window at a time.

A label's segment opens where its value reaches the upper threshold and lasts as long as the value stays at the lower
one. Windows below that are bridged if the value returns to the lower threshold within the allowed gap. Segments shorter
than the minimum are dropped. Labels are independent, so their segments may overlap, and where no label has a segment
the video shows none of them.

Only the state of each label is kept, so memory does not grow with the number of windows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array, Float64Array, Int64Array
from serve.video.windows import Window

TIME_TOLERANCE_SECONDS = 1e-6  # edges of cells are sums, so equal lengths may differ by rounding


@dataclass(frozen=True, kw_only=True)
class SegmentRule:
    """When a label's segment opens, lasts and closes. Thresholds are one for all labels, or one for each [K]."""

    on: Float32Array | float
    off: Float32Array | float  # at most `on`
    min_segment_seconds: float
    gap_seconds: float


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of a label; times half open."""

    label: int  # index in the vocabulary
    start_seconds: float
    end_seconds: float
    start_frame: int
    end_frame: int
    score: float  # mean over the windows of the segment
    peak_seconds: float  # centre of the window with the highest score


class Segmenter:
    """Joins windows, in ascending order, to segments of K labels."""

    def __init__(self, num_labels: int, rule: SegmentRule) -> None:
        self._rule = rule
        self._found: list[Segment] = []
        self._is_open: NDArray[np.bool_] = np.zeros(num_labels, np.bool_)
        self._start: Float64Array = np.zeros(num_labels)
        self._end: Float64Array = np.zeros(num_labels)  # of the last window at the lower threshold
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
        may_last: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add a window with the values [K] that thresholds apply to, and the scores [K] that segments report.

        A label that may not open or last counts as below that threshold.
        """
        stays = values >= self._rule.off
        opens = values >= self._rule.on
        if may_last is not None:
            stays &= may_last
        opens &= stays if may_open is None else stays & may_open
        silence = window.cell_end_seconds - self._end
        self._close(self._is_open & ~stays & (silence > self._rule.gap_seconds + TIME_TOLERANCE_SECONDS))
        begins = opens & ~self._is_open
        self._start[begins], self._start_frame[begins] = window.cell_start_seconds, window.cell_start_frame
        self._sum[begins], self._count[begins], self._peak[begins] = 0.0, 0, -np.inf
        self._is_open |= begins
        lasts = self._is_open & stays
        self._end[lasts], self._end_frame[lasts] = window.cell_end_seconds, window.cell_end_frame
        self._sum[lasts] += scores[lasts]
        self._count[lasts] += 1
        rises = lasts & (scores > self._peak)
        self._peak[rises], self._peak_seconds[rises] = scores[rises], window.centre_seconds

    def finished(self) -> list[Segment]:
        """Close all segments and return them by start, then by label."""
        self._close(self._is_open.copy())
        return sorted(self._found, key=lambda item: (item.start_seconds, item.label))

    def _close(self, closes: NDArray[np.bool_]) -> None:
        self._found += self._segments(np.flatnonzero(closes))
        self._is_open &= ~closes

    def _segments(self, labels: Int64Array) -> Iterator[Segment]:
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
