"""Requests and results of decoding; a light module, so that the server does not load a decoder."""

from dataclasses import dataclass

from serve.arrays import Float64Array, Int64Array, UInt8Array
from serve.contract import PreprocessContract, SamplingContract
from serve.video.metadata import VideoMetadata


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
