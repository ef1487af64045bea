"""Sliding windows over the frames of a video, by presentation time.

A window contains the frames whose times lie in it. The contract's sampling rule chooses the T frames of its clip from
them, as if the video had been trimmed to the window. A window without a frame uses the last frame before it.

Each window represents one cell: the times that are closer to its centre than to the centre of any other window. Cells
do not overlap and cover the whole video, so a segment of consecutive windows is not biased towards either end.
"""

from dataclasses import dataclass

import numpy as np

from serve.arrays import Float64Array, Int64Array
from serve.contract import SamplingContract
from serve.video.metadata import Timeline
from serve.video.sampling import clip_indices

FRAME_TOLERANCE_SECONDS = 1e-6  # times are rounded; a frame up to this much before a window still belongs to it


@dataclass(frozen=True, kw_only=True)
class Window:
    """One window; times are relative to the first displayed frame, ranges are half open."""

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
        """Centre of the window."""
        return (self.start_seconds + self.end_seconds) / 2


@dataclass(frozen=True, kw_only=True)
class WindowGrid:
    """The N windows of one video, ascending."""

    starts: Float64Array  # [N] seconds
    ends: Float64Array  # [N] seconds
    cell_edges: Float64Array  # [N + 1] seconds
    start_frames: Int64Array  # [N]
    end_frames: Int64Array  # [N], exclusive; greater than the start frame
    cell_frames: Int64Array  # [N + 1]
    samples: Int64Array  # [N, T] frame indices

    def __len__(self) -> int:
        return len(self.starts)

    def window(self, index: int) -> Window:
        """Return the window with the given index."""
        return Window(
            start_seconds=float(self.starts[index]),
            end_seconds=float(self.ends[index]),
            start_frame=int(self.start_frames[index]),
            end_frame=int(self.end_frames[index]),
            cell_start_seconds=float(self.cell_edges[index]),
            cell_end_seconds=float(self.cell_edges[index + 1]),
            cell_start_frame=int(self.cell_frames[index]),
            cell_end_frame=int(self.cell_frames[index + 1]),
            frame_indices=tuple(self.samples[index].tolist()),
        )


def window_starts(duration_seconds: float, *, window_seconds: float, stride_seconds: float) -> Float64Array:
    """Return the starts [N] of the windows, one per stride; a last window is added so that the end is covered.

    A video that is not longer than a window has one window.

    >>> window_starts(5.5, window_seconds=2.0, stride_seconds=1.0).tolist()
    [0.0, 1.0, 2.0, 3.0, 3.5]
    >>> window_starts(1.0, window_seconds=2.0, stride_seconds=1.0).tolist()
    [0.0]
    """
    last = duration_seconds - window_seconds
    if last <= 0:
        return np.zeros(1)
    starts: Float64Array = np.arange(int(last / stride_seconds + 1e-9) + 1, dtype=np.float64) * stride_seconds
    has_uncovered_end = last - starts[-1] > 1e-3 * stride_seconds
    return np.append(starts, last) if has_uncovered_end else starts


def count_windows(duration_seconds: float, *, window_seconds: float, stride_seconds: float) -> int:
    """Return an upper bound on the number of windows without computing them.

    >>> count_windows(5.5, window_seconds=2.0, stride_seconds=1.0)
    5
    """
    return int(max(0.0, duration_seconds - window_seconds) / stride_seconds) + 2


def make_grid(
    timeline: Timeline, sampling: SamplingContract, *, window_seconds: float, stride_seconds: float
) -> WindowGrid:
    """Compute the windows of a video and sample the frames of each.

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
        samples=_sample_frames(start_frames, np.maximum(end_frames, start_frames + 1), sampling),
    )


def _frames_at(timeline: Timeline, seconds: Float64Array) -> Int64Array:
    """Return the index of the first frame at or after each time."""
    return np.searchsorted(timeline.pts_seconds, seconds - FRAME_TOLERANCE_SECONDS).astype(np.int64)


def _sample_frames(start_frames: Int64Array, end_frames: Int64Array, sampling: SamplingContract) -> Int64Array:
    """Return the frame indices [N, T] of windows; the rule is evaluated once per distinct number of frames."""
    counts = end_frames - start_frames
    samples = np.empty((len(counts), sampling.num_segments), np.int64)
    for count in np.unique(counts):
        has_count = counts == count
        offsets = clip_indices(sampling.rule, int(count), num_segments=sampling.num_segments)[0]  # [T]
        samples[has_count] = start_frames[has_count, None] + np.sort(offsets)
    return samples
