"""Frame sampling: the sampling rules of the contract, with 0-based indices.

Serving, export and evaluation call `clip_indices`. Several clips are spaced evenly: clip v of V uses the frame at
position (v + 0.5) / V of each segment, so a single clip uses the published indices. X-CLIP's published multi-clip
evaluation is random; this one is deterministic.
"""

from collections.abc import Callable

import numpy as np

from serve.arrays import Int64Array
from serve.errors import VideoTooShort


def segment_positions(num_frames: int, num_segments: int, position: float) -> Int64Array:
    """Return the index of the frame at `position` (0 to 1) of each of T equal slices [T]; short videos repeat frames.

    Source: segments as in TSN (arXiv:1608.00859); position 0.5 is the test-time sampling of X-CLIP.

    >>> segment_positions(30, 3, 0.5).tolist()
    [5, 15, 25]
    >>> segment_positions(3, 4, 0.5).tolist()
    [0, 1, 1, 2]
    """
    frames_per_segment = num_frames / num_segments  # may be fractional
    starts = np.arange(num_segments) * frames_per_segment
    return (starts + frames_per_segment * position).astype(np.int64)  # same rounding as in the original


def actionclip_validation(num_frames: int, num_segments: int, *, seg_length: int = 1, loop: bool = False) -> Int64Array:
    """Return ActionCLIP's validation indices [T * seg_length], 0-based; every branch of the published code.

    With one segment the result is the middle frame, for any `seg_length`. If the video is not longer than the clip,
    frames are repeated evenly, or the video is repeated from its start if `loop` is set.

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
    """Return ActionCLIP's indices [T] at `position` of each segment: half a frame before `segment_positions`.

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


def endpoint_indices(num_frames: int, num_segments: int) -> Int64Array:
    """Return evenly spaced indices [T] from the first frame to the last, both included.

    Source: the evaluation code of Perception Encoder (arXiv:2504.13181).

    >>> endpoint_indices(30, 3).tolist()
    [0, 14, 29]
    """
    steps = max(num_segments - 1, 1)
    return np.array([int(i * (num_frames - 1) / steps) for i in range(num_segments)], np.int64)


def endpoint_positions(num_frames: int, num_segments: int, position: float) -> Int64Array:
    """Return `endpoint_indices` at position 0.5 (a single clip, as published), otherwise `segment_positions`.

    >>> endpoint_positions(30, 3, 0.5).tolist(), endpoint_positions(30, 3, 0.25).tolist()
    ([0, 14, 29], [2, 12, 22])
    """
    if position == 0.5:
        return endpoint_indices(num_frames, num_segments)
    return segment_positions(num_frames, num_segments, position)


SAMPLING_RULES: dict[str, Callable[[int, int, float], Int64Array]] = {
    "centres": segment_positions,
    "actionclip": actionclip_positions,
    "ends": endpoint_positions,
}


def clip_indices(rule: str, num_frames: int, *, num_segments: int, num_clips: int = 1) -> Int64Array:
    """Return frame indices [num_clips, T] for a video with `num_frames` shown frames, by a rule of `SAMPLING_RULES`.

    Raises:
        VideoTooShort: `num_frames` is less than 1.

    >>> clip_indices("centres", 40, num_segments=4, num_clips=2).tolist()
    [[2, 12, 22, 32], [7, 17, 27, 37]]
    """
    if num_frames < 1:
        raise VideoTooShort(f"the video has {num_frames} frames; at least 1 is needed", num_frames=num_frames)
    positions = [(clip + 0.5) / num_clips for clip in range(num_clips)]
    return np.stack([SAMPLING_RULES[rule](num_frames, num_segments, position) for position in positions])
