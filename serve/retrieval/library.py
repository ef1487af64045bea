"""Stored videos: the interface of the routes to rescoring, search, deletion and expiry."""

import asyncio
import logging

from serve.errors import StoreUnavailable
from serve.models.registry import ModelRegistry
from serve.pipeline import Pipeline
from serve.retrieval.index import WindowIndexes
from serve.retrieval.rescoring import Rescorer
from serve.retrieval.search import WindowSearch
from serve.settings import VideoStoreSettings
from serve.video.workers import DecodePool
from serve.videos.store import VideoStore

logger = logging.getLogger(__name__)


class VideoLibrary:
    """Groups the components for stored videos, and runs the task that deletes expired ones."""

    def __init__(
        self,
        store: VideoStore,
        pipeline: Pipeline,
        registry: ModelRegistry,
        *,
        pool: DecodePool,
        settings: VideoStoreSettings,
    ) -> None:
        self.store = store
        self._registry = registry
        self._settings = settings
        self._indexes = WindowIndexes(store, max_bytes=settings.memory_bytes)
        self.rescorer = Rescorer(pipeline, registry, store, self._indexes)
        self.search = WindowSearch(pipeline, registry, store, self._indexes, pool=pool)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the background task that deletes expired videos periodically."""
        self._task = asyncio.create_task(self._sweep_periodically(), name="delete expired videos")

    async def close(self) -> None:
        """Cancel the background task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def delete(self, video_id: str, *, key_id: str | None = None) -> None:
        """Delete a video from the database and from memory, and erase its data from the database files.

        If `key_id` is given, the video must belong to that API key.

        Raises:
            UnknownVideo: the video does not exist, or belongs to another API key.
            StoreUnavailable: the database is unavailable.
        """
        await asyncio.to_thread(self.store.delete, video_id, key_id=key_id)
        await self._indexes.remove(video_id)
        await asyncio.to_thread(
            self.store.erase_deleted
        )  # a concurrent reader can prevent this; the next sweep repeats it

    async def sweep(self) -> None:
        """Delete expired videos, update the indexes in memory, and erase deleted data from the database files.

        Raises:
            StoreUnavailable: the database is unavailable.
        """
        await asyncio.to_thread(self.store.sweep)
        await self._indexes.refresh([runtime.reference for runtime in self._registry.loaded()])
        await asyncio.to_thread(self.store.erase_deleted)  # including data of videos that were never completed

    async def _sweep_periodically(self) -> None:
        is_available = True
        while True:
            try:
                await self.sweep()
                is_available = True
            except StoreUnavailable as error:
                if is_available:
                    logger.warning("sweeping stored videos failed, will retry: %s", error)
                is_available = False
            except Exception:  # a failure must not end the loop
                logger.exception("sweeping stored videos failed unexpectedly, will retry")
            await asyncio.sleep(self._settings.sweep_seconds)
