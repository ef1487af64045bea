"""Requests and results of decoding; a light module, so that the server does not load a decoder."""

from dataclasses import dataclass

from serve.arrays import Float64Array, Int64Array, UInt8Array
from serve.contract import PreprocessContract, SamplingContract
from serve.video.metadata import VideoMetadata
from serve.video.windows import Window


@dataclass(frozen=True, kw_only=True)
class ViewRequest:
    """Which views of a video are wanted."""

    sampling: SamplingContract
    preprocess: PreprocessContract
    num_clips: int
    num_crops: int

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """[V, T, 3, S, S] of the views."""
        size = self.preprocess.image_size
        return self.num_clips * self.num_crops, self.sampling.num_segments, 3, size, size


@dataclass(frozen=True, kw_only=True)
class DecodedViews:
    """The views of a video and the frames they were made from."""

    views: UInt8Array  # [V, T, 3, S, S], crop-major, then clip
    metadata: VideoMetadata
    frame_indices: Int64Array  # [num_clips, T]
    pts_seconds: Float64Array  # [num_clips, T], relative to the first shown frame
    decode_ms: float
    preprocess_ms: float
    queue_ms: float = 0.0  # time spent waiting for a decode child


@dataclass(frozen=True, kw_only=True)
class WindowRequest:
    """Which windows of a video are wanted, and how many frames may come at once."""

    sampling: SamplingContract
    preprocess: PreprocessContract
    window_seconds: float
    stride_seconds: float
    max_windows: int
    frames_at_once: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, 3, S, S] of the frames that come at once."""
        size = self.preprocess.image_size
        return self.frames_at_once, 3, size, size


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """Facts of a video before its frames are decoded."""

    num_frames: int
    fps: float
    duration_seconds: float
    num_windows: int


@dataclass(frozen=True, kw_only=True)
class WindowPart:
    """Some frames of a video, and the windows that are complete with them."""

    facts: VideoFacts | None  # at the start; a second time, everything before is void
    frame_indices: tuple[int, ...]  # ascending
    frame_seconds: tuple[float, ...]  # presentation times from the first shown frame
    frames: UInt8Array  # [N, 3, S, S]
    windows: tuple[Window, ...]  # ascending
    keep_from: int  # frames before this one are not needed by later windows


@dataclass(frozen=True, kw_only=True)
class WindowsEnd:
    """What is known of a video after all of its windows came."""

    width: int
    height: int
    is_truncated: bool
    num_corrupt_frames: int
