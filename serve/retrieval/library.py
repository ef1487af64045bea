"""The stored videos of one gateway: writing, scoring, search, deletion and expiry, joined."""

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
    """The parts that serve stored videos, and the task that deletes expired ones."""

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
        """Start to delete expired videos, at intervals."""
        self._task = asyncio.create_task(self._keep_sweeping(), name="delete expired videos")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def delete(self, video_id: str, *, key_id: str | None = None) -> None:
        """Delete a video from the store, from memory and from the files of the database.

        With `key_id` only one that belongs to that API key is deleted.

        Raises:
            UnknownVideo: there is no such video.
            StoreUnavailable: the database does not answer.
        """
        await asyncio.to_thread(self.store.delete, video_id, key_id=key_id)
        await self._indexes.forget(video_id)
        await asyncio.to_thread(self.store.erase_deleted)  # what a reader prevents is done by a later sweep

    async def sweep(self) -> None:
        """Delete expired videos, take over in memory what other gateways deleted, erase what deletion left in files.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        await asyncio.to_thread(self.store.sweep)
        await self._indexes.refresh([runtime.reference for runtime in self._registry.loaded()])
        await asyncio.to_thread(self.store.erase_deleted)  # also of videos that were abandoned

    async def _keep_sweeping(self) -> None:
        is_available = True
        while True:
            try:
                await self.sweep()
                is_available = True
            except StoreUnavailable as error:
                if is_available:
                    logger.warning("expired videos cannot be deleted now: %s", error)
                is_available = False
            except Exception:  # the sweep continues after any failure
                logger.exception("expired videos cannot be deleted; trying again")
            await asyncio.sleep(self._settings.sweep_seconds)
