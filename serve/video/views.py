"""Which views of a video are wanted, and what decoding gives back; light, so the server need not load a decoder."""

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
    """The views of a video, and which frames they show."""

    views: UInt8Array  # [V, T, 3, S, S], crop-major, then clip
    metadata: VideoMetadata
    frame_indices: Int64Array  # [num_clips, T]
    pts_seconds: Float64Array  # [num_clips, T], from the first shown frame on
    decode_ms: float
    preprocess_ms: float
    queue_ms: float = 0.0  # waiting for a decoder
