"""Settings of decoding: the decoder, the number of child processes and the limits of one video.

They are the nested group `SERVE_DECODE__*` of the server's settings.
"""

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_DEFAULT_WORKERS = 8  # more are used only if the settings ask for them


class DecodeSettings(BaseModel):
    """Settings and limits of decoding; a request that exceeds a limit fails, other requests are not affected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: Literal["pyav", "decord"] = Field("pyav", description="Decoding library; pyav supports far more formats.")
    workers: int = Field(0, ge=0, le=256, description="Number of decode processes; 0: one per processor, at most 8.")
    threads: int = Field(
        0, ge=0, le=64, description="Number of decoding threads per video; 0: one per processor, at most 8."
    )
    queue_size: int = Field(
        64,
        ge=0,
        le=65536,
        description="Maximum number of videos waiting for a decode process; further requests get 503.",
    )
    deadline_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Maximum wall-clock time to decode one video; a process that takes longer is killed.",
    )
    max_cpu_seconds: int = Field(
        120, ge=1, le=36000, description="Maximum processor time to decode one video, summed over all threads."
    )
    max_memory_bytes: int = Field(
        2 * 2**30, ge=128 * 2**20, le=2**62, description="Address space that a decode process may map for one video."
    )
    max_file_bytes: int = Field(
        2**20,
        ge=0,
        le=2**62,
        description="Maximum size of a file that a decode process may write; decoding writes none.",
    )
    max_picture_pixels: int = Field(
        36_000_000,
        ge=1,
        le=2**31 - 1,
        description="Maximum width times height of a frame, checked before decoding; 8K UHD is allowed.",
    )
    max_aspect_ratio: float = Field(
        200.0, ge=1, le=10_000, description="Maximum ratio of a frame's longer side to its shorter side."
    )
    max_duration_seconds: float = Field(
        6 * 3600.0, gt=0, description="Maximum duration of a video, according to its timestamps."
    )
    max_frames: int = Field(
        1_000_000,
        ge=1,
        le=100_000_000,
        description="Maximum number of frames of a video, counted and not read from a header.",
    )
    max_corrupt_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Maximum fraction of the sampled frames that may be corrupt; other videos are rejected.",
    )
    max_jobs_per_child: int = Field(
        1000, ge=1, description="Number of videos after which a decode process is replaced; 1: one process per video."
    )
    isolation: Literal["auto", "required", "off"] = Field(
        "auto",
        description="Isolation of decode processes: `auto` uses what the platform allows, `required` refuses to start "
        "if a layer is missing, `off` uses none.",
    )

    def worker_count(self) -> int:
        """Return the number of decode processes to start."""
        return self.workers or min(num_processors(), MAX_DEFAULT_WORKERS)

    def thread_count(self) -> int:
        """Return the number of decoding threads per video."""
        return self.threads or min(num_processors(), MAX_DEFAULT_WORKERS)


def num_processors() -> int:
    """Return the number of processors that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
