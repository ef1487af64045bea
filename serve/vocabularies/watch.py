"""Noticing what other gateways changed: PostgreSQL tells at once, and every so often the store is asked anyway."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from serve.errors import StoreUnavailable
from serve.store.database import Database
from serve.vocabularies.store import CHANNEL

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 2.0


class ChangeWatcher:
    """Calls `follow` whenever versions in the store may have changed, one call after the other."""

    def __init__(
        self,
        database: Database,
        *,
        poll_seconds: float,
        follow: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._follow = follow
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.fault: str | None = None  # why the store cannot be asked at present

    def start(self) -> None:
        """Begin to watch."""
        self._tasks.append(asyncio.create_task(self._poll()))
        if self._database.is_postgres:
            self._tasks.append(asyncio.create_task(self._listen()))

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _poll(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), self._poll_seconds)
            self._told.clear()
            try:
                await self._follow()
                self.fault = None
            except StoreUnavailable as error:
                if self.fault is None:
                    logger.warning("vocabularies stay as they are: %s", error)
                self.fault = error.message
            except Exception:  # the watch must outlive any one failure
                logger.exception("a change of vocabularies could not be taken over; it is tried again")

    async def _listen(self) -> None:
        """Wake the poll when PostgreSQL tells of a commit; without the connection the poll alone goes on."""
        import psycopg  # the extra `postgres`

        address = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    async for _ in connection.notifies():
                        self._told.set()
            except (psycopg.Error, OSError) as error:
                logger.info("not listening to the database: %s; asking it instead", error.__class__.__name__)
            await asyncio.sleep(RECONNECT_SECONDS)
