"""Metadata of a video and the times of its frames."""

from dataclasses import dataclass

from serve.arrays import Float64Array


@dataclass(frozen=True, kw_only=True)
class VideoMetadata:
    """Metadata of a video, determined from its packets and frames instead of the container's headers."""

    num_frames: int  # shown frames, without those that an edit list hides
    fps: float  # mean over the video; 0 for a still image
    duration_seconds: float  # up to the end of the last frame; 0 for a still image
    height: int  # of the first decoded frame, after rotation
    width: int
    container: str  # FFmpeg's name
    codec: str
    num_broken_packets: int = 0  # packets that the decoder rejected and that were skipped
    num_corrupt_frames: int = 0  # sampled frames that depend on corrupt data


@dataclass(frozen=True)
class Timeline:
    """Presentation times of the shown frames, relative to the first one."""

    pts_seconds: Float64Array  # [N], ascending
    duration_seconds: float

    @property
    def num_frames(self) -> int:
        """Number of shown frames."""
        return len(self.pts_seconds)

    @property
    def fps(self) -> float:
        """Mean frames per second; 0 if the duration is 0."""
        if self.num_frames > 1 and self.pts_seconds[-1] > 0:
            return float((self.num_frames - 1) / self.pts_seconds[-1])
        return self.num_frames / self.duration_seconds if self.duration_seconds > 0 else 0.0
