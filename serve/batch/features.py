"""Features of the videos of a batch, collected in memory instead of stored in a database."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from serve.video.windows import Window
from serve.videos.records import FeaturePart, NewVideo, StoredVideo, StoredVideoMetadata, timestamp


@dataclass(frozen=True, kw_only=True)
class CollectedVideo:
    """All windows of a video with their features, rounded to the values that a stored video has."""

    parts: tuple[FeaturePart, ...]
    metadata: StoredVideoMetadata

    @property
    def windows(self) -> list[Window]:
        """The windows of all parts."""
        return [window for part in self.parts for window in part.windows]

    @property
    def num_bytes(self) -> int:
        """Size of the features in memory."""
        return sum(part.features.num_bytes for part in self.parts)


class FeatureCollector:
    """Receives the videos that the pipeline stores (`serve.videos.writer.VideoSink`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # parts are added by worker threads
        self._parts: dict[str, list[FeaturePart]] = {}
        self._videos: dict[str, CollectedVideo] = {}

    def take(self, video_id: str) -> CollectedVideo:
        """Return a complete video and remove it."""
        with self._lock:
            return self._videos.pop(video_id)

    def add_part(self, video: NewVideo, part_index: int, part: FeaturePart) -> None:
        """Add a part of an incomplete video."""
        with self._lock:
            self._parts.setdefault(video.video_id, []).append(part)

    def complete(
        self, video: NewVideo, part_index: int, part: FeaturePart, metadata: StoredVideoMetadata
    ) -> StoredVideo:
        """Add the last part and the metadata."""
        with self._lock:
            parts = (*self._parts.pop(video.video_id, ()), part)
            collected = self._videos[video.video_id] = CollectedVideo(parts=parts, metadata=metadata)
        return StoredVideo(
            video_id=video.video_id,
            kind=video.kind,
            model_name=video.model_name,
            model_version=video.model_version,
            model_digest=video.model_digest,
            num_windows=sum(len(each.windows) for each in parts),
            num_bytes=collected.num_bytes,
            key_id=video.key_id,
            metadata=metadata,
            tags=video.tags,
            created_at=timestamp(datetime.now(UTC)),
            expires_at=None,
        )

    def abandon(self, video_id: str) -> None:
        """Remove the parts of an incomplete video."""
        with self._lock:
            self._parts.pop(video_id, None)
