"""Records of stored videos: a video, its metadata, its windows with their features, and filters."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, Field

from serve.api.responses import SamplingInfo
from serve.features import VideoFeatures
from serve.video.windows import Window

Kind = Literal["clips", "windows"]


class SourceInfo(BaseModel):
    """Properties of the file of a stored video."""

    filename: str | None = Field(description="Name that the client sent; null if it sent none.")
    num_bytes: int
    num_frames: int
    fps: float
    duration_seconds: float
    width: int
    height: int
    truncated: bool = Field(description="Whether the file is truncated.")
    num_corrupt_frames: int = Field(description="Number of sampled frames that depend on corrupt data.")


class StoredVideoMetadata(BaseModel):
    """Metadata that are stored with the features."""

    engine: str = Field(description="Runtime and precision that computed the features.")
    source: SourceInfo
    sampling: SamplingInfo | None = Field(description="Sampling of a classification; null for windows.")
    window_seconds: float | None = Field(description="Null for the clips of a classification.")
    stride_seconds: float | None = Field(description="Null for the clips of a classification.")


@dataclass(frozen=True, kw_only=True)
class StoredVideo:
    """One stored video, without its features."""

    video_id: str
    kind: Kind
    model_name: str
    model_version: int
    model_digest: str
    num_windows: int
    num_bytes: int  # size of the features
    key_id: str | None  # id of the API key that owns the video
    metadata: StoredVideoMetadata
    tags: tuple[str, ...]
    created_at: str  # ISO 8601, UTC
    expires_at: str | None

    @property
    def model(self) -> str:
        """`name@version` of the model that computed the features."""
        return f"{self.model_name}@{self.model_version}"


@dataclass(frozen=True, kw_only=True)
class NewVideo:
    """A video that is being stored."""

    video_id: str
    kind: Kind
    model_name: str
    model_version: int
    model_digest: str
    tags: tuple[str, ...]
    key_id: str | None
    expires_in_seconds: int | None
    abandoned_after_seconds: float  # time after which an incomplete video is deleted

    @staticmethod
    def new_id() -> str:
        """Return a new random video id, which cannot be guessed."""
        return secrets.token_hex(16)


@dataclass(frozen=True, kw_only=True)
class FeaturePart:
    """Consecutive windows of a stored video and their features."""

    windows: Sequence[Window]  # `frame_indices` is empty: it is not stored
    features: VideoFeatures


@dataclass(frozen=True, kw_only=True)
class VideoFilter:
    """Conditions that select stored videos; None means no condition."""

    key_id: str | None = None  # id of the API key that owns the video
    tag: str | None = None
    model_name: str | None = None
    model_version: int | None = None
    model_digest: str | None = None
    created_after: str | None = None  # inclusive, ISO 8601, UTC
    created_before: str | None = None  # exclusive


@dataclass(frozen=True, kw_only=True)
class IndexedVideo:
    """The properties of a stored video that a window index needs."""

    video_id: str
    num_windows: int
    expires_at: str | None


def timestamp(moment: datetime) -> str:
    """Format a time as it is stored; stored times sort correctly as strings.

    >>> timestamp(datetime(2026, 11, 26, 7, 5, tzinfo=UTC))
    '2026-11-26T07:05:00.000+00:00'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def now() -> str:
    """Return the current time in the stored format."""
    return timestamp(datetime.now(UTC))
