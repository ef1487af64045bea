"""Metadata of a video and the times of its frames."""

from dataclasses import dataclass

from serve.arrays import Float64Array


@dataclass(frozen=True, kw_only=True)
class VideoMetadata:
    """Facts of the shown frames, from the frames themselves and not from headers."""

    num_frames: int  # shown frames, without discarded packets and those that an edit list hides
    fps: float  # mean over the video; 0 for a picture
    duration_seconds: float  # to the end of the last frame; 0 for a picture
    height: int  # of the first frame read, rotation applied
    width: int
    container: str  # ffmpeg's name
    codec: str
    num_broken_packets: int = 0  # packets that the decoder rejected and that were skipped
    num_corrupt_frames: int = 0  # sampled frames that depend on corrupt data


@dataclass(frozen=True)
class Timeline:
    """Presentation times of the shown frames, counted from the first one."""

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
