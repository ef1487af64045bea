"""Detect changes of vocabularies in the database, and pass them to the catalogue and the encoding queue.

Every server process polls the database. PostgreSQL also notifies the processes of each commit.
"""

import asyncio
import logging
from contextlib import suppress

from serve.errors import StoreUnavailable
from serve.store.database import Database
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.encoding_queue import EncodingQueue
from serve.vocabularies.store import CHANNEL, VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 2.0


class StoreFollower:
    """Keeps the newest versions in the catalogue equal to the newest versions in the store."""

    def __init__(
        self,
        database: Database,
        store: VocabularyStore,
        *,
        catalogue: Catalogue,
        queue: EncodingQueue,
        poll_seconds: float,
    ) -> None:
        self._database = database
        self._store = store
        self._catalogue = catalogue
        self._queue = queue
        self._poll_seconds = poll_seconds
        self._changed_during_read: set[str] = set()  # names changed by this server process since the last read began
        self._notified = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.fault: str | None = None  # why the store cannot be reached; None if it can

    def start(self) -> None:
        """Start to watch for changes by other server processes."""
        self._tasks.append(asyncio.create_task(self._poll(), name="follow vocabularies"))
        if self._database.is_postgres:
            self._tasks.append(asyncio.create_task(self._listen(), name="listen to the database"))

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def record_commit(self, stored: Vocabulary) -> None:
        """Apply a version that this server process has committed."""
        self._changed_during_read.add(stored.name)
        self._queue.cache_committed(stored)
        latest = max(stored.version, self._catalogue.latest(stored.name))
        self._apply_latest({**self._catalogue.latest_versions(), stored.name: latest})

    def record_deletion(self, name: str) -> None:
        """Apply the deletion of a vocabulary by this server process."""
        self._changed_during_read.add(name)
        latest = self._catalogue.latest_versions()
        latest.pop(name, None)
        self._apply_latest(latest)

    async def follow(self) -> None:
        """Read the newest versions from the store and apply them.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        self._changed_during_read.clear()
        latest = await asyncio.to_thread(self._store.latest_versions)
        for name in self._changed_during_read:
            local = self._catalogue.latest(name)
            if local == 0:
                latest.pop(name, None)
            else:
                latest[name] = max(local, latest.get(name, 0))
        self._apply_latest(latest)

    def _apply_latest(self, latest: dict[str, int]) -> None:
        changed = self._catalogue.update_latest(latest)
        self._queue.keep(latest.keys())
        for name in changed:
            self._queue.add(name)

    async def _poll(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._notified.wait(), self._poll_seconds)
            self._notified.clear()
            try:
                await self.follow()
                self.fault = None
            except StoreUnavailable as error:
                if self.fault is None:
                    logger.warning("cannot reach the store, vocabularies stay unchanged: %s", error)
                self.fault = error.message
            except Exception:  # polling continues after any failure
                logger.exception("cannot apply changes of vocabularies; trying again")

    async def _listen(self) -> None:
        """Wake the polling task when PostgreSQL notifies of a commit; while disconnected, only polling continues."""
        import psycopg  # the extra `postgres`

        address = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    async for _ in connection.notifies():
                        self._notified.set()
            except (psycopg.Error, OSError) as error:
                logger.info("cannot listen for notifications of the database, polling only: %s", type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)
