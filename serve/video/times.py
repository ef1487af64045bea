"""Compute the presentation times of frames from the times of their packets."""

import statistics
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from serve.video.containers import UNRELIABLE_TIMES
from serve.video.metadata import Timeline
from serve.video.packet_index import PacketEntry

MAX_GAP_SECONDS = 10.0  # in containers with unreliable times, a longer step between two frames is a jump of the clock


class TimestampConverter:
    """Converts the packet times of one stream to seconds."""

    def __init__(self, *, container: str, time_base: float, seconds_per_frame: float) -> None:
        self._container = container
        self._time_base = time_base
        self._seconds_per_frame = seconds_per_frame

    def timeline(self, entries: Sequence[PacketEntry], shown: Sequence[int | None]) -> Timeline:
        """Return the times of the frames; `shown` are the positions of their packets, in output order.

        If packets have no times (raw streams), frames are spaced by the frame rate of the stream.
        """
        times = self._times(entries, shown)
        if not times or None in times:
            seconds = np.arange(len(shown), dtype=np.float64) * self._seconds_per_frame
            return Timeline(seconds, len(shown) * self._seconds_per_frame)
        last = shown[-1]
        last_duration = 0 if last is None else entries[last].duration
        return self._from_ticks([time for time in times if time is not None], last_duration)

    def _times(self, entries: Sequence[PacketEntry], shown: Sequence[int | None]) -> list[int | None]:
        """Return the times of the frames in ticks of the time base; None for unknown times."""
        if self._container != "avi":
            return [None if position is None else entries[position].pts for position in shown]
        # AVI has only decoding times, one for each chunk, including empty chunks; sorted, they are the output times.
        known = [position for position in shown if position is not None]
        chunks = [entries[position].dts for position in known]
        if len(set(known)) != len(shown):
            chunks = [entry.dts for entry in entries][: len(shown)]
        if None in chunks or len(chunks) != len(shown):
            return [None] * len(shown)
        return sorted(chunks, key=lambda chunk: chunk or 0)

    def _from_ticks(self, ticks: list[int], last_duration: int) -> Timeline:
        """Convert ticks to seconds and remove jumps of the clock."""
        steps = [after - before for before, after in pairwise(ticks)]
        typical_step = round(statistics.median(steps)) if steps else 0
        may_jump = self._container in UNRELIABLE_TIMES
        if min(steps, default=1) <= 0 or (may_jump and max(steps, default=0) * self._time_base > MAX_GAP_SECONDS):
            steps = self._remove_jumps(steps, may_jump=may_jump)
        seconds = np.concatenate([[0.0], np.cumsum(steps, dtype=np.float64)]) * self._time_base
        if last_duration <= 0:
            last_duration = typical_step
        return Timeline(seconds, float(seconds[-1]) + last_duration * self._time_base)

    def _remove_jumps(self, steps: list[int], *, may_jump: bool) -> list[int]:
        """Replace steps that are not positive, and long steps if the clock may jump, with the median step."""
        limit = MAX_GAP_SECONDS / self._time_base if may_jump and self._time_base else float("inf")
        valid = [step for step in steps if 0 < step <= limit]
        if valid:
            typical_step = round(statistics.median(valid))
        else:
            typical_step = round(self._seconds_per_frame / (self._time_base or 1.0))
        return [step if 0 < step <= limit else typical_step for step in steps]
