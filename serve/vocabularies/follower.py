"""Following the store: changes by this gateway and by others reach the catalogue and the encoding queue.

PostgreSQL notifies the gateways of each commit; beside that, every gateway polls the store.
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
    """Keeps the catalogue's newest versions equal to those of the store."""

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
        self._touched: set[str] = set()  # names this gateway changed since it last began to read the store
        self._notified = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.fault: str | None = None  # why the store does not answer at present

    def start(self) -> None:
        """Start to follow changes by other gateways."""
        self._tasks.append(asyncio.create_task(self._poll(), name="follow vocabularies"))
        if self._database.is_postgres:
            self._tasks.append(asyncio.create_task(self._listen(), name="listen to the database"))

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def record_commit(self, stored: Vocabulary) -> None:
        """Take over a version that this gateway committed."""
        self._touched.add(stored.name)
        self._queue.add_committed(stored)
        latest = max(stored.version, self._catalogue.latest(stored.name))
        self._take_over({**self._catalogue.latest_versions(), stored.name: latest})

    def record_deletion(self, name: str) -> None:
        """Take over the deletion of a name by this gateway."""
        self._touched.add(name)
        latest = self._catalogue.latest_versions()
        latest.pop(name, None)
        self._take_over(latest)

    async def follow(self) -> None:
        """Take over what the store holds; names changed here while it was read are newer than what it returned.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        self._touched.clear()
        latest = await asyncio.to_thread(self._store.latest_versions)
        for name in self._touched:
            own = self._catalogue.latest(name)
            if own == 0:
                latest.pop(name, None)
            else:
                latest[name] = max(own, latest.get(name, 0))
        self._take_over(latest)

    def _take_over(self, latest: dict[str, int]) -> None:
        for name in self._catalogue.replace_latest(latest):
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
                    logger.warning("the store does not answer, vocabularies stay as they are: %s", error)
                self.fault = error.message
            except Exception:  # polling continues after any failure
                logger.exception("cannot take over a change of vocabularies; trying again")

    async def _listen(self) -> None:
        """Wake the poll when PostgreSQL notifies of a commit; without a connection, polling alone continues."""
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
                logger.info("cannot listen to the database, polling it instead: %s", error.__class__.__name__)
            await asyncio.sleep(RECONNECT_SECONDS)
