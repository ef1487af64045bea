"""What is known of a video once its timestamps are read."""

from dataclasses import dataclass

from serve.arrays import Float64Array


@dataclass(frozen=True, kw_only=True)
class VideoMetadata:
    """Facts of the frames that are shown; headers are never asked."""

    num_frames: int  # shown frames: discarded packets and those an edit list hides are not counted
    fps: float  # mean over the video; 0 for a picture
    duration_seconds: float  # to the end of the last frame; 0 for a picture
    height: int  # of the first frame read, rotation applied
    width: int
    container: str  # ffmpeg's name
    codec: str
    num_broken_packets: int = 0  # packets the decoder refused and that were left out
    num_corrupt_frames: int = 0  # of the frames looked at, those that stand on errors the decoder found


@dataclass(frozen=True)
class Timeline:
    """Presentation times of the shown frames, counted from the first one."""

    pts_seconds: Float64Array  # [N], ascending
    duration_seconds: float

    @property
    def num_frames(self) -> int:
        """Shown frames."""
        return len(self.pts_seconds)

    @property
    def fps(self) -> float:
        """Mean frames per second; 0 where time does not pass."""
        if self.num_frames > 1 and self.pts_seconds[-1] > 0:
            return float((self.num_frames - 1) / self.pts_seconds[-1])
        return self.num_frames / self.duration_seconds if self.duration_seconds > 0 else 0.0
