"""Requests and results of decoding; importing this module does not load a decoder."""

from dataclasses import dataclass

from serve.arrays import Float64Array, Int64Array, UInt8Array
from serve.contract import PreprocessContract, SamplingContract
from serve.video.metadata import VideoMetadata
from serve.video.windows import Window


@dataclass(frozen=True, kw_only=True)
class ViewRequest:
    """The views to decode from a video."""

    sampling: SamplingContract
    preprocess: PreprocessContract
    num_clips: int
    num_crops: int

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape [V, T, 3, S, S] of the views."""
        size = self.preprocess.image_size
        return self.num_clips * self.num_crops, self.sampling.num_segments, 3, size, size


@dataclass(frozen=True, kw_only=True)
class DecodedViews:
    """The views of a video and the indices and times of their frames."""

    views: UInt8Array  # [V, T, 3, S, S], crop-major, then clip
    metadata: VideoMetadata
    frame_indices: Int64Array  # [num_clips, T]
    pts_seconds: Float64Array  # [num_clips, T], relative to the first displayed frame
    decode_ms: float
    preprocess_ms: float
    queue_ms: float = 0.0  # time spent waiting for a decode child


@dataclass(frozen=True, kw_only=True)
class WindowRequest:
    """The windows to decode from a video, and the maximum number of frames in one part of the result."""

    sampling: SamplingContract
    preprocess: PreprocessContract
    window_seconds: float
    stride_seconds: float
    max_windows: int
    frames_per_part: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape [N, 3, S, S] of the frames of one part."""
        size = self.preprocess.image_size
        return self.frames_per_part, 3, size, size


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video that are known before decoding."""

    num_frames: int
    fps: float
    duration_seconds: float
    num_windows: int


@dataclass(frozen=True, kw_only=True)
class WindowPart:
    """Consecutive sampled frames of a video, and the windows that they complete."""

    info: VideoInfo | None  # set in the first part; set again if decoding restarts, and earlier parts are then invalid
    frame_indices: tuple[int, ...]  # ascending
    frame_seconds: tuple[float, ...]  # presentation times, relative to the first displayed frame
    frames: UInt8Array  # [N, 3, S, S]
    windows: tuple[Window, ...]  # ascending
    first_needed_frame: int  # index of the first frame that later windows contain


@dataclass(frozen=True, kw_only=True)
class WindowStreamSummary:
    """Properties of a video that are known after all its windows have been decoded."""

    width: int
    height: int
    is_truncated: bool
    num_corrupt_frames: int
