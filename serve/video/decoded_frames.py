"""What every decoder takes and returns: functions that choose and receive frames, and the decoded frames."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from serve.arrays import Int64Array, UInt8Array
from serve.errors import VideoTooShort
from serve.video.metadata import Timeline

FrameSelector = Callable[[int], Int64Array]  # number of shown frames -> wanted indices, any shape
TimeSelector = Callable[[Timeline], Int64Array]  # times of the shown frames -> wanted indices, any shape
FrameTransform = Callable[[UInt8Array], Any]  # upright frame [H, W, 3] RGB -> value to return
FrameConsumer = Callable[[int, UInt8Array], None]  # receives the index and the upright frame [H, W, 3] RGB


@dataclass(frozen=True)
class DecodedFrames:
    """The wanted frames as returned by the transform, and the times of all frames."""

    timeline: Timeline
    indices: Int64Array  # as chosen for the true number of frames
    values: dict[int, Any]  # frame index -> result of the transform
    num_broken_packets: int = 0
    corrupt_indices: frozenset[int] = frozenset()  # wanted frames with concealed errors, or that depend on such frames

    @property
    def num_corrupt_frames(self) -> int:
        """Number of wanted frames that are corrupt."""
        return len(self.corrupt_indices)


@dataclass(frozen=True)
class StreamSummary:
    """Information about a video that is known after all frames were streamed."""

    timeline: Timeline
    num_broken_packets: int
    num_corrupt_frames: int  # wanted frames only
    is_truncated: bool  # the end of the file is missing, or its last packets cannot be decoded


def check_indices(indices: Int64Array, num_frames: int) -> Int64Array:
    """Return the indices, after checking that the video has these frames.

    Raises:
        VideoTooShort: an index is not less than `num_frames`.
    """
    if indices.max() >= num_frames:
        raise VideoTooShort(
            f"frame {indices.max()} was requested, but the video has {num_frames} frames", num_frames=num_frames
        )
    return indices
