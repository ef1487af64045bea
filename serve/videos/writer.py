"""Store the features of a video while it is processed; they are written to the database in parts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serve.api.options import StoreOptions
from serve.arrays import Float32Array
from serve.errors import InvalidOption, StoreUnavailable
from serve.features import VideoFeatures
from serve.models.runtime import ModelRuntime
from serve.settings import VideoStoreSettings
from serve.video.windows import Window
from serve.videos.records import FeaturePart, Kind, NewVideo, StoredVideo, StoredVideoMetadata

PART_BYTES = 4 * 2**20  # size of float32 features in memory at which a part is written
MIN_ABANDONED_AFTER_SECONDS = 7200.0  # longer if the deadline of timelines is longer


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a video comes from; stored with the video."""

    filename: str | None = None  # name that the client sent, safe to display
    key_id: str | None = None  # id of the API key of the request


UNKNOWN_ORIGIN = Origin()


class VideoSink(Protocol):
    """Where the features of videos are stored; see `VideoStore`, which stores them in the database."""

    def add_part(self, video: NewVideo, part_index: int, part: FeaturePart) -> None:
        """Store a part of an incomplete video."""

    def complete(
        self, video: NewVideo, part_index: int, part: FeaturePart, metadata: StoredVideoMetadata
    ) -> StoredVideo:
        """Store the last part and the metadata."""

    def abandon(self, video_id: str) -> None:
        """Delete the parts of an incomplete video."""


class VideoWriter:
    """Writes one video. Other requests can see it only after `finish`."""

    def __init__(self, store: VideoSink, video: NewVideo) -> None:
        self._store = store
        self._video = video
        self._part_index = 0  # index of the next part
        self._windows: list[Window] = []
        self._features: list[VideoFeatures] = []

    async def add(self, windows: Sequence[Window], features: VideoFeatures) -> None:
        """Add windows and their features.

        Raises:
            VideoStoreFull, StoreUnavailable: the limit of stored bytes is reached, or the database is unavailable.
        """
        self._windows += windows
        self._features.append(features)
        if sum(item.num_bytes for item in self._features) >= PART_BYTES:
            await asyncio.to_thread(self._store.add_part, self._video, self._part_index, self._make_part())
            self._part_index += 1
            self._windows, self._features = [], []

    async def restart(self) -> None:
        """Discard all windows, because decoding restarts from the beginning of the video."""
        self._windows, self._features = [], []
        await self.abandon()

    async def finish(self, metadata: StoredVideoMetadata) -> StoredVideo:
        """Write the remaining windows and the metadata, and return the video.

        Raises:
            VideoStoreFull, StoreUnavailable: the limit of stored bytes is reached, or the database is unavailable.
        """
        stored = await asyncio.to_thread(
            self._store.complete, self._video, self._part_index, self._make_part(), metadata
        )
        self._part_index = 0
        return stored

    async def abandon(self) -> None:
        """Delete the parts that were written."""
        if self._part_index:
            self._part_index = 0
            await asyncio.to_thread(self._store.abandon, self._video.video_id)

    def _make_part(self) -> FeaturePart:
        return FeaturePart(
            windows=self._windows,
            features=VideoFeatures(
                video_features=_concatenate([item.video_features for item in self._features]),
                patch_features=_concatenate_if_any([item.patch_features for item in self._features]),
                prototype_features=_concatenate_if_any([item.prototype_features for item in self._features]),
            ),
        )


class VideoSaver:
    """Creates writers for videos according to the options of requests."""

    def __init__(self, store: VideoSink, settings: VideoStoreSettings, *, deadline_seconds: float) -> None:
        self._store = store
        self._settings = settings
        self._abandoned_after_seconds = max(MIN_ABANDONED_AFTER_SECONDS, 2 * deadline_seconds)

    def check(self, options: StoreOptions) -> None:
        """Check the storage options before the video is processed.

        Raises:
            InvalidOption: there are too many tags.
        """
        limit = self._settings.max_tags
        if options.tags is not None and len(options.tags) > limit:
            raise InvalidOption(f"{len(options.tags)} tags were sent; at most {limit} are allowed", limit=limit)

    @asynccontextmanager
    async def writing(
        self, runtime: ModelRuntime, options: StoreOptions, *, kind: Kind, key_id: str | None
    ) -> AsyncIterator[VideoWriter]:
        """Yield a writer. If the block raises or does not finish the video, the written parts are deleted."""
        contract = runtime.contract
        writer = VideoWriter(
            self._store,
            NewVideo(
                video_id=NewVideo.new_id(),
                kind=kind,
                model_name=contract.name,
                model_version=contract.version,
                model_digest=runtime.features_digest,
                tags=tuple(dict.fromkeys(options.tags or ())),
                key_id=key_id,
                expires_in_seconds=options.expires_in_seconds or self._settings.keep_seconds,
                abandoned_after_seconds=self._abandoned_after_seconds,
            ),
        )
        try:
            yield writer
        finally:
            with suppress(StoreUnavailable):  # the next sweep deletes the abandoned video
                await asyncio.shield(writer.abandon())


def _concatenate(parts: Sequence[Float32Array]) -> Float32Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _concatenate_if_any(parts: Sequence[Float32Array | None]) -> Float32Array | None:
    known = [part for part in parts if part is not None]
    return _concatenate(known) if known else None
