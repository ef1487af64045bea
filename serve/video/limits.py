"""Settings of decoding: the decoder, the number of children, and the limits of one video.

They are the nested group `SERVE_DECODE__*` of the server's settings.
"""

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_AUTOMATIC_WORKERS = 8  # more only if an operator sets it


class DecodeSettings(BaseModel):
    """Settings and limits of decoding; exceeding a limit fails only that request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: Literal["pyav", "decord"] = Field("pyav", description="Library that decodes; pyav reads far more formats.")
    workers: int = Field(
        0, ge=0, le=256, description="Child processes that decode; 0: one for each processor, at most 8."
    )
    threads: int = Field(
        0, ge=0, le=64, description="Threads that decode one video; 0: one for each processor, at most 8."
    )
    queue_size: int = Field(
        64, ge=0, le=65536, description="Videos that may wait for a child; past it requests get 503."
    )
    deadline_seconds: float = Field(
        30.0, gt=0, le=3600, description="Wall-clock time of one video in a child; past it the child is killed."
    )
    max_cpu_seconds: int = Field(120, ge=1, le=36000, description="Processor time of one video, all threads together.")
    max_memory_bytes: int = Field(
        2 * 2**30, ge=128 * 2**20, description="Memory one video may take beyond an idle child (address space)."
    )
    max_file_bytes: int = Field(2**20, ge=0, description="Size up to which a child may write any file; it needs none.")
    max_picture_pixels: int = Field(
        36_000_000,
        ge=1,
        le=2**31 - 1,
        description="Width times height of a frame, checked before decoding; 8K UHD fits.",
    )
    max_aspect_ratio: float = Field(200.0, ge=1, le=10_000, description="Longer side of a frame over its shorter side.")
    max_duration_seconds: float = Field(6 * 3600.0, gt=0, description="Length of a video by its timestamps.")
    max_frames: int = Field(
        1_000_000, ge=1, le=100_000_000, description="Frames of a video, counted, not a header's claim."
    )
    max_corrupt_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the frames looked at that may be corrupt; past it the video is refused.",
    )
    max_jobs_per_child: int = Field(
        1000, ge=1, description="Videos after which a child is replaced, whatever its health."
    )

    def worker_count(self) -> int:
        """Return the number of children to start."""
        return self.workers or min(_processors(), MOST_AUTOMATIC_WORKERS)

    def thread_count(self) -> int:
        """Return the number of threads for one video."""
        return self.threads or min(_processors(), MOST_AUTOMATIC_WORKERS)


def _processors() -> int:
    """Return the number of processors this process may use; in a container it may be smaller than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
