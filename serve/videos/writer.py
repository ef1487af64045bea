"""Storing the features of a video while it is processed: parts go to the database as soon as they are large enough."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import numpy as np

from serve.api.options import StoreOptions
from serve.arrays import Float32Array
from serve.errors import InvalidOption, StoreUnavailable
from serve.features import VideoFeatures
from serve.models.runtime import ModelRuntime
from serve.settings import VideoStoreSettings
from serve.video.windows import Window
from serve.videos.store import Kind, NewVideo, StoredFacts, StoredVideo, VideoStore, WindowPart

PART_BYTES = 4 * 2**20  # of features in memory, float32
ABANDONED_AFTER_SECONDS = 7200.0  # at least; a timeline may take as long as its deadline


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a video comes from; kept if it is stored."""

    filename: str | None = None  # of the client, to be shown
    key_id: str | None = None  # of the API key of the request


UNKNOWN_ORIGIN = Origin()


class VideoWriter:
    """Writes one video; it does not exist before `finish`."""

    def __init__(self, store: VideoStore, video: NewVideo) -> None:
        self._store = store
        self._video = video
        self._number = 0  # of the next part
        self._windows: list[Window] = []
        self._features: list[VideoFeatures] = []

    async def add(self, windows: Sequence[Window], features: VideoFeatures) -> None:
        """Take windows and their features.

        Raises:
            VideoStoreFull, StoreUnavailable: see `VideoStore`.
        """
        self._windows += windows
        self._features.append(features)
        if sum(map(_num_bytes, self._features)) >= PART_BYTES:
            await asyncio.to_thread(self._store.add_part, self._video, self._number, self._part())
            self._number += 1
            self._windows, self._features = [], []

    async def restart(self) -> None:
        """Forget everything: the video is read again from its start."""
        self._windows, self._features = [], []
        await self.abandon()

    async def finish(self, facts: StoredFacts) -> StoredVideo:
        """Write the rest; return the video, which exists from now on.

        Raises:
            VideoStoreFull, StoreUnavailable: see `VideoStore`.
        """
        stored = await asyncio.to_thread(self._store.complete, self._video, self._number, self._part(), facts)
        self._number = 0
        return stored

    async def abandon(self) -> None:
        """Delete what was written."""
        if self._number:
            self._number = 0
            await asyncio.to_thread(self._store.abandon, self._video.video_id)

    def _part(self) -> WindowPart:
        return WindowPart(
            windows=self._windows,
            features=VideoFeatures(
                video_features=_joined([item.video_features for item in self._features]),
                patch_features=_joined_if_any([item.patch_features for item in self._features]),
                prototype_features=_joined_if_any([item.prototype_features for item in self._features]),
            ),
        )


class VideoSaver:
    """Starts the writing of videos, by the options of requests."""

    def __init__(self, store: VideoStore, settings: VideoStoreSettings, *, deadline_seconds: float) -> None:
        self._store = store
        self._settings = settings
        self._abandoned_after_seconds = max(ABANDONED_AFTER_SECONDS, 2 * deadline_seconds)

    def check(self, options: StoreOptions) -> None:
        """Check the options of storing before any work is done.

        Raises:
            InvalidOption: there are too many tags.
        """
        limit = self._settings.max_tags
        if options.tags is not None and len(options.tags) > limit:
            raise InvalidOption(f"{len(options.tags)} tags, at most {limit} are allowed", limit=limit)

    @asynccontextmanager
    async def writing(
        self, runtime: ModelRuntime, options: StoreOptions, *, kind: Kind, key_id: str | None
    ) -> AsyncIterator[VideoWriter]:
        """Yield a writer; if the block raises or does not finish the video, what was written is deleted."""
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
            with suppress(StoreUnavailable):  # deleted later, as abandoned
                await asyncio.shield(writer.abandon())


def _num_bytes(features: VideoFeatures) -> int:
    parts = (features.video_features, features.patch_features, features.prototype_features)
    return sum(part.nbytes for part in parts if part is not None)


def _joined(parts: Sequence[Float32Array]) -> Float32Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _joined_if_any(parts: Sequence[Float32Array | None]) -> Float32Array | None:
    known = [part for part in parts if part is not None]
    return _joined(known) if known else None
