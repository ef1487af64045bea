"""Random frame sampling for training as in ActionCLIP and X-CLIP; `serve.video.sampling` samples for evaluation.

`SampleFrames` is X-CLIP's sampler with all its options (originally from mmaction2); the published training uses T clips
of one frame each. Frame indices start at 0. Random numbers are drawn in the same order as in the published code, so the
same seed yields the same indices.
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
    """Return frame indices [T * seg_length]: `seg_length` consecutive frames at a random offset in each of T segments.

    If the video is not longer than the clip, every frame is used and randomly chosen frames are repeated, in temporal
    order; with `loop`, sampling instead starts at a random frame of the first half and wraps around. Advances
    `rngs.numpy`.

    Raises:
        ValueError: `loop` is used with a video of one frame; ActionCLIP's code fails as well.
    """
    total = num_segments * seg_length
    if num_frames <= total:
        if loop:
            return (np.arange(total) + rngs.numpy.randint(num_frames // 2)) % num_frames
        repeated = rngs.numpy.randint(num_frames, size=total - num_frames)
        return np.sort(np.concatenate((np.arange(num_frames), repeated)))
    boundaries = [i * num_frames // num_segments for i in range(num_segments + 1)]
    indices: list[int] = []
    for start, end in pairwise(boundaries):
        max_offset = end - start - seg_length
        first = start + (rngs.numpy.randint(max_offset + 1) if max_offset >= 0 else 0)
        indices.extend(range(first, first + seg_length))
    return np.array(indices, np.int64)


@dataclass(frozen=True, kw_only=True)
class SampleFrames:
    """X-CLIP's sampler: `num_clips` clips of `clip_len` frames, `frame_interval` frames apart.

    With `test_mode`, each clip starts in the middle of one of `num_clips` equal slices of the video, and `twice_sample`
    adds clips that start at the beginning of the slices. Without `test_mode`, clips start at random positions, and the
    sample is repeated `multiview` times.
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

        Source: the released code of X-CLIP (arXiv:2208.02816). As there, if a training video has at most half as many
        frames as the clip, an index can be rounded up to N, which wraps around to frame 0.
        """
        if self.frame_uniform:
            return self._uniform(num_frames, rngs.python) + self.start_index
        offsets = self._offsets(num_frames, rngs.numpy)
        frames = offsets[:, None] + np.arange(self.clip_len) * self.frame_interval  # [clips, clip_len]
        if self.temporal_jitter:
            frames = frames + rngs.numpy.randint(self.frame_interval, size=frames.size).reshape(frames.shape)
        return self._limit_to_video(frames, num_frames).reshape(-1).astype(np.int64) + self.start_index

    def _offsets(self, num_frames: int, numpy: np.random.RandomState) -> Float64Array:
        """Return the first frame of each clip [clips]; it may be fractional."""
        if self.test_mode:
            return self._slice_middles(num_frames)
        return np.concatenate([self._random_starts(num_frames, numpy) for _ in range(self.multiview)])

    def _slice_middles(self, num_frames: int) -> Float64Array:
        num_starts = num_frames - self.clip_len * self.frame_interval + 1  # possible first frames
        if num_starts <= 0:
            return np.zeros(self.num_clips)
        slice_starts = np.arange(self.num_clips) * (num_starts / self.num_clips)
        middles = np.trunc(slice_starts + num_starts / self.num_clips / 2)
        return np.concatenate((middles, slice_starts)) if self.twice_sample else middles

    def _random_starts(self, num_frames: int, numpy: np.random.RandomState) -> Float64Array:
        span = self.clip_len * self.frame_interval
        num_starts = num_frames - span + 1  # possible first frames
        slice_length = num_starts // self.num_clips
        if slice_length > 0:
            slice_starts = np.arange(self.num_clips, dtype=np.float64) * slice_length
            return slice_starts + numpy.randint(slice_length, size=self.num_clips)
        if num_frames > max(self.num_clips, span):
            return np.sort(numpy.randint(num_starts, size=self.num_clips)).astype(np.float64)
        if slice_length == 0:
            return np.around(np.arange(self.num_clips) * (num_starts / self.num_clips))  # rounds half to even
        return np.zeros(self.num_clips)

    def _limit_to_video(self, frames: Float64Array, num_frames: int) -> Float64Array:
        """Replace indices beyond the last frame: wrap around, or repeat the last valid index of the clip."""
        if self.out_of_bound == "loop":
            return np.mod(frames, num_frames)
        last_valid = np.where(frames < num_frames, frames, 0).max(axis=1, keepdims=True)  # [clips, 1]
        return np.where(frames < num_frames, frames, last_valid)

    def _uniform(self, num_frames: int, python: random.Random) -> Int64Array:
        """Return one frame of each of `clip_len` equal slices of the video [clip_len]."""
        slice_length = (num_frames - 1) / self.clip_len
        boundaries = [int(np.round(slice_length * i)) for i in range(self.clip_len + 1)]
        slices = list(pairwise(boundaries))
        if self.test_mode:
            return np.array([(start + end) // 2 for start, end in slices], np.int64)
        return np.array([python.randint(start, end) for start, end in slices], np.int64)
