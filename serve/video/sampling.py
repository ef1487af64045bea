"""Frame sampling: the sampling rules of the contract, with 0-based indices.

Serving, export and evaluation call `clip_indices`. Several clips are spread evenly: clip v of V is at position
r = (v + 0.5) / V of each segment, so one clip uses the published indices. X-CLIP's published multi-clip test is
random; this one is deterministic.
"""

from collections.abc import Callable

import numpy as np

from serve.arrays import Int64Array
from serve.errors import VideoTooShort


def segment_positions(num_frames: int, num_segments: int, position: float) -> Int64Array:
    """Frame at `position` (0 to 1) of each of T equal slices [T]; a short video repeats frames.

    Source: segments after TSN (arXiv:1608.00859); position 0.5 is X-CLIP's test sampling and open_clip's usual one.

    >>> segment_positions(30, 3, 0.5).tolist()
    [5, 15, 25]
    >>> segment_positions(3, 4, 0.5).tolist()
    [0, 1, 1, 2]
    """
    frames_per_segment = num_frames / num_segments  # may be fractional
    starts = np.arange(num_segments) * frames_per_segment
    return (starts + frames_per_segment * position).astype(np.int64)  # same rounding as in the original


def actionclip_validation(num_frames: int, num_segments: int, *, seg_length: int = 1, loop: bool = False) -> Int64Array:
    """ActionCLIP's validation indices [T * seg_length], every branch of the published code, 0-based.

    With one segment the result is the middle frame, for any `seg_length`. A video not longer than the clip repeats
    frames evenly, or from its start with `loop`.

    >>> actionclip_validation(30, 3).tolist()
    [4, 14, 24]
    >>> actionclip_validation(2, 4).tolist()
    [0, 0, 1, 1]
    >>> actionclip_validation(2, 4, loop=True).tolist()
    [0, 1, 0, 1]
    """
    total = num_segments * seg_length
    if num_segments == 1:
        return np.array([num_frames // 2], np.int64)
    if num_frames <= total:
        if loop:
            return np.arange(total, dtype=np.int64) % num_frames
        return np.arange(total, dtype=np.int64) * num_frames // total
    offset = (num_frames / num_segments - seg_length) / 2
    return np.array(
        [int(i * num_frames / num_segments + offset + j) for i in range(num_segments) for j in range(seg_length)],
        np.int64,
    )


def actionclip_positions(num_frames: int, num_segments: int, position: float) -> Int64Array:
    """ActionCLIP's rule at `position` of each segment [T]: half a frame before `segment_positions`.

    >>> actionclip_positions(30, 3, 0.5).tolist()
    [4, 14, 24]
    """
    if num_segments == 1:
        return np.array([int(num_frames * position)], np.int64)
    if num_frames <= num_segments:
        return actionclip_validation(num_frames, num_segments)
    frames_per_segment = num_frames / num_segments
    return np.array(
        [max(0, int(i * frames_per_segment + frames_per_segment * position - 0.5)) for i in range(num_segments)],
        np.int64,
    )


def both_ends(num_frames: int, num_segments: int) -> Int64Array:
    """Evenly from the first frame to the last, both included [T].

    Source: the evaluation code of Perception Encoder (arXiv:2504.13181).

    >>> both_ends(30, 3).tolist()
    [0, 14, 29]
    """
    steps = max(num_segments - 1, 1)
    return np.array([int(i * (num_frames - 1) / steps) for i in range(num_segments)], np.int64)


def _ends(num_frames: int, num_segments: int, position: float) -> Int64Array:
    """Apply `both_ends` to a single clip, as published, and `segment_positions` to one of several clips."""
    if position == 0.5:
        return both_ends(num_frames, num_segments)
    return segment_positions(num_frames, num_segments, position)


SAMPLING_RULES: dict[str, Callable[[int, int, float], Int64Array]] = {
    "centres": segment_positions,
    "actionclip": actionclip_positions,
    "ends": _ends,
}


def clip_indices(rule: str, num_frames: int, *, num_segments: int, num_clips: int = 1) -> Int64Array:
    """Frame indices [num_clips, T] of a video with `num_frames` shown frames, by a rule of `SAMPLING_RULES`.

    Raises:
        VideoTooShort: the video shows no frame.

    >>> clip_indices("centres", 40, num_segments=4, num_clips=2).tolist()
    [[2, 12, 22, 32], [7, 17, 27, 37]]
    """
    if num_frames < 1:
        raise VideoTooShort(f"the video has {num_frames} frames; at least 1 is needed", num_frames=num_frames)
    positions = [(clip + 0.5) / num_clips for clip in range(num_clips)]
    return np.stack([SAMPLING_RULES[rule](num_frames, num_segments, position) for position in positions])
