"""Random frame sampling of training clips in both systems, 0-based. For evaluation see `serve.video.sampling`.

`SampleFrames` is X-CLIP's sampler with all its options (originally from mmaction2); the published training uses T clips
of one frame. Random numbers are drawn from the given generators in the order of the originals.
"""

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from serve.arrays import Float64Array, Int64Array
from training.data.augmentation.rngs import Rngs

OutOfBound = Literal["loop", "repeat_last"]


def actionclip_training(
    num_frames: int, num_segments: int, *, rngs: Rngs, seg_length: int = 1, loop: bool = False
) -> Int64Array:
    """Return ActionCLIP's random indices [T * seg_length]: a random run in each segment; advances `rngs.numpy`.

    For a video not longer than the clip, all frames are used, and random ones again, in order; with `loop` sampling
    starts at random in the first half and wraps around.

    Raises:
        ValueError: `loop` with a video of one frame, where the original fails too.
    """
    total = num_segments * seg_length
    if num_frames <= total:
        if loop:
            return (np.arange(total) + rngs.numpy.randint(num_frames // 2)) % num_frames
        repeated = rngs.numpy.randint(num_frames, size=total - num_frames)
        return np.sort(np.concatenate((np.arange(num_frames), repeated)))
    ticks = [i * num_frames // num_segments for i in range(num_segments + 1)]
    indices: list[int] = []
    for start, end in pairwise(ticks):
        room = end - start - seg_length
        first = start + (rngs.numpy.randint(room + 1) if room >= 0 else 0)
        indices.extend(range(first, first + seg_length))
    return np.array(indices, np.int64)


@dataclass(frozen=True, kw_only=True)
class SampleFrames:
    """X-CLIP's sampler: `num_clips` clips of `clip_len` frames, `frame_interval` apart.

    With `test_mode`, clips are at the middles of equal slices, else at random positions; `multiview` concatenates
    several random samples and has no effect with `test_mode`; `twice_sample` adds the starts of the slices.
    """

    clip_len: int
    frame_interval: int = 1
    num_clips: int = 1
    test_mode: bool = False
    temporal_jitter: bool = False
    twice_sample: bool = False
    out_of_bound: OutOfBound = "loop"
    frame_uniform: bool = False
    multiview: int = 1
    start_index: int = 0

    def indices(self, num_frames: int, *, rngs: Rngs) -> Int64Array:
        """Return frame indices [clips * clip_len]; advances `rngs.numpy`, or `rngs.python` with `frame_uniform`.

        Source: arXiv:2208.02816's released code, including that rounding up to N wraps around to frame 0 when a
        training video has at most half as many frames as the clip.
        """
        if self.frame_uniform:
            return self._uniform(num_frames, rngs.python) + self.start_index
        offsets = self._offsets(num_frames, rngs.numpy)
        frames = offsets[:, None] + np.arange(self.clip_len) * self.frame_interval  # [clips, clip_len]
        if self.temporal_jitter:
            frames = frames + rngs.numpy.randint(self.frame_interval, size=frames.size).reshape(frames.shape)
        return self._within(frames, num_frames).reshape(-1).astype(np.int64) + self.start_index

    def _offsets(self, num_frames: int, numpy: np.random.RandomState) -> Float64Array:
        """Return the start of each clip [clips], not necessarily integers."""
        if self.test_mode:
            return self._middles(num_frames)
        return np.concatenate([self._random_starts(num_frames, numpy) for _ in range(self.multiview)])

    def _middles(self, num_frames: int) -> Float64Array:
        room = num_frames - self.clip_len * self.frame_interval + 1
        if room <= 0:
            return np.zeros(self.num_clips)
        slices = np.arange(self.num_clips) * (room / self.num_clips)
        middles = np.trunc(slices + room / self.num_clips / 2)
        return np.concatenate((middles, slices)) if self.twice_sample else middles

    def _random_starts(self, num_frames: int, numpy: np.random.RandomState) -> Float64Array:
        span = self.clip_len * self.frame_interval
        room = num_frames - span + 1
        width = room // self.num_clips
        if width > 0:
            starts = np.arange(self.num_clips, dtype=np.float64) * width
            return starts + numpy.randint(width, size=self.num_clips)
        if num_frames > max(self.num_clips, span):
            return np.sort(numpy.randint(room, size=self.num_clips)).astype(np.float64)
        if width == 0:
            return np.around(np.arange(self.num_clips) * (room / self.num_clips))  # half to even
        return np.zeros(self.num_clips)

    def _within(self, frames: Float64Array, num_frames: int) -> Float64Array:
        if self.out_of_bound == "loop":
            return np.mod(frames, num_frames)
        last = np.where(frames < num_frames, frames, 0).max(axis=1, keepdims=True)  # of each clip
        return np.where(frames < num_frames, frames, last)

    def _uniform(self, num_frames: int, python: random.Random) -> Int64Array:
        """Return one frame of each of `clip_len` equal slices of the video [clip_len]."""
        width = (num_frames - 1) / self.clip_len
        edges = [int(np.round(width * i)) for i in range(self.clip_len + 1)]
        pairs = list(pairwise(edges))
        if self.test_mode:
            return np.array([(start + end) // 2 for start, end in pairs], np.int64)
        return np.array([python.randint(start, end) for start, end in pairs], np.int64)
