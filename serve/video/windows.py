"""Sliding windows over the frames of a video, by presentation time.

A window holds the frames whose time lies in it; of these, the contract's rule chooses the T frames of a clip, as for a
video that was cut there. If no frame falls into a window, it shows the frame before it.

Each window answers for one cell, the times that are closer to its centre than to another window's. The cells divide
the video without overlap, so a run of windows that show a label becomes a segment that is unbiased at both ends.
"""

from dataclasses import dataclass

import numpy as np

from serve.arrays import Float64Array, Int64Array
from serve.contract import SamplingContract
from serve.video.metadata import Timeline
from serve.video.sampling import clip_indices

FRAME_TOLERANCE_SECONDS = 1e-6  # times are sums of ticks; a frame this much before a window counts as its first


@dataclass(frozen=True, kw_only=True)
class Window:
    """One window; times in seconds from the first shown frame, ranges half open."""

    start_seconds: float
    end_seconds: float
    start_frame: int
    end_frame: int
    cell_start_seconds: float
    cell_end_seconds: float
    cell_start_frame: int
    cell_end_frame: int
    frame_indices: tuple[int, ...]  # [T], ascending

    @property
    def centre_seconds(self) -> float:
        """Middle of the window."""
        return (self.start_seconds + self.end_seconds) / 2


@dataclass(frozen=True, kw_only=True)
class WindowGrid:
    """The windows of one video, ascending."""

    starts: Float64Array  # [N] seconds
    ends: Float64Array  # [N] seconds
    cell_edges: Float64Array  # [N + 1] seconds
    start_frames: Int64Array  # [N]
    end_frames: Int64Array  # [N], above the start
    cell_frames: Int64Array  # [N + 1]
    samples: Int64Array  # [N, T] frame indices

    def __len__(self) -> int:
        return len(self.starts)

    def window(self, number: int) -> Window:
        """Return one window."""
        return Window(
            start_seconds=float(self.starts[number]),
            end_seconds=float(self.ends[number]),
            start_frame=int(self.start_frames[number]),
            end_frame=int(self.end_frames[number]),
            cell_start_seconds=float(self.cell_edges[number]),
            cell_end_seconds=float(self.cell_edges[number + 1]),
            cell_start_frame=int(self.cell_frames[number]),
            cell_end_frame=int(self.cell_frames[number + 1]),
            frame_indices=tuple(self.samples[number].tolist()),
        )


def window_starts(duration_seconds: float, *, window_seconds: float, stride_seconds: float) -> Float64Array:
    """Return the starts [N] of the windows: one each stride, and a last one that ends with the video.

    A video not longer than a window has one window.

    >>> window_starts(5.5, window_seconds=2.0, stride_seconds=1.0).tolist()
    [0.0, 1.0, 2.0, 3.0, 3.5]
    >>> window_starts(1.0, window_seconds=2.0, stride_seconds=1.0).tolist()
    [0.0]
    """
    last = duration_seconds - window_seconds
    if last <= 0:
        return np.zeros(1)
    starts: Float64Array = np.arange(int(last / stride_seconds + 1e-9) + 1, dtype=np.float64) * stride_seconds
    is_short = last - starts[-1] > 1e-3 * stride_seconds
    return np.append(starts, last) if is_short else starts


def count_windows(duration_seconds: float, *, window_seconds: float, stride_seconds: float) -> int:
    """Return an upper bound of the number of windows, without making them.

    >>> count_windows(5.5, window_seconds=2.0, stride_seconds=1.0)
    5
    """
    return int(max(0.0, duration_seconds - window_seconds) / stride_seconds) + 2


def make_grid(
    timeline: Timeline, sampling: SamplingContract, *, window_seconds: float, stride_seconds: float
) -> WindowGrid:
    """Lay windows over the frames of a video and choose the frames of each.

    >>> frames = Timeline(np.arange(40) / 10, 4.0)
    >>> rule = SamplingContract(rule="centres", num_segments=2)
    >>> grid = make_grid(frames, rule, window_seconds=2.0, stride_seconds=1.0)
    >>> grid.samples.tolist(), grid.cell_edges.tolist(), grid.cell_frames.tolist()
    ([[5, 15], [15, 25], [25, 35]], [0.0, 1.5, 2.5, 4.0], [0, 15, 25, 40])
    """
    duration = timeline.duration_seconds
    starts = window_starts(duration, window_seconds=window_seconds, stride_seconds=stride_seconds)
    ends = np.minimum(starts + window_seconds, duration)
    ends[-1] = duration
    centres = (starts + ends) / 2
    cell_edges = np.concatenate(([0.0], (centres[1:] + centres[:-1]) / 2, [duration]))
    start_frames, end_frames = _frames_at(timeline, starts), _frames_at(timeline, ends)
    end_frames[-1] = timeline.num_frames
    start_frames = np.where(start_frames < end_frames, start_frames, np.maximum(end_frames - 1, 0))
    cell_frames = _frames_at(timeline, cell_edges)
    cell_frames[-1] = timeline.num_frames
    return WindowGrid(
        starts=starts,
        ends=ends,
        cell_edges=cell_edges,
        start_frames=start_frames,
        end_frames=np.maximum(end_frames, start_frames + 1),
        cell_frames=cell_frames,
        samples=_samples(start_frames, np.maximum(end_frames, start_frames + 1), sampling),
    )


def _frames_at(timeline: Timeline, seconds: Float64Array) -> Int64Array:
    """Return the index of the first frame at or after each time."""
    return np.searchsorted(timeline.pts_seconds, seconds - FRAME_TOLERANCE_SECONDS).astype(np.int64)


def _samples(start_frames: Int64Array, end_frames: Int64Array, sampling: SamplingContract) -> Int64Array:
    """Return the frames [N, T] of windows by the contract's rule; it is applied once for each number of frames."""
    counts = end_frames - start_frames
    samples = np.empty((len(counts), sampling.num_segments), np.int64)
    for count in np.unique(counts):
        chosen = counts == count
        within = clip_indices(sampling.rule, int(count), num_segments=sampling.num_segments)[0]  # [T]
        samples[chosen] = start_frames[chosen, None] + np.sort(within)
    return samples
