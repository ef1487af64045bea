"""Bounds of request bodies: how many uploads are in progress, how slow a body may be, and the memory of bodies.

An upload has a place of its own until it is complete; a slot of inference is only taken then (`serve.admission.slots`).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

from serve.admission.clients import client_of
from serve.admission.shares import SharedLimit
from serve.errors import ClientDisconnected, Overloaded, ServerStopping, SlowBody
from serve.settings import BodySettings


class RateCredit:
    """The time for which a body may still keep the server waiting.

    It begins with `grace_seconds`, which is also its maximum. Waiting spends it; bytes earn it at the minimum rate. So
    a body that stalls is too slow after the grace period, however much has arrived before.

    >>> credit = RateCredit(grace_seconds=10.0, min_bytes_per_second=100)
    >>> credit.update(waited_seconds=9.0, num_bytes=50)
    >>> credit.seconds
    1.5
    >>> credit.update(waited_seconds=1.0, num_bytes=100_000)
    >>> credit.seconds
    10.0
    """

    def __init__(self, *, grace_seconds: float, min_bytes_per_second: int) -> None:
        self.seconds = self._maximum = grace_seconds
        self._rate = min_bytes_per_second

    def update(self, *, waited_seconds: float, num_bytes: int) -> None:
        """Record that the server waited so long for so many bytes."""
        self.seconds = min(self._maximum, self.seconds - waited_seconds + num_bytes / self._rate)


class BodyAdmission:
    """The bounds of all bodies that one server receives."""

    def __init__(self, settings: BodySettings) -> None:
        self._settings = settings
        self._uploads = SharedLimit(settings.max_uploads)
        self._memory = SharedLimit(settings.memory_bytes)
        self.is_stopping = False  # a body that is too slow is then rejected because the server stops

    @property
    def num_uploads(self) -> int:
        """Number of uploads in progress."""
        return self._uploads.used

    @property
    def memory_bytes(self) -> int:
        """Memory of the bodies of requests in progress, in bytes."""
        return self._memory.used

    @contextmanager
    def upload(self, request: Request) -> Iterator[None]:
        """Count an upload to disk as in progress during the block.

        Raises:
            Overloaded: the limit of uploads, or the share of the client, is reached.
        """
        client = client_of(request)
        if not self._uploads.take(client):
            raise Overloaded(
                f"{self._uploads.used} uploads are in progress, of which {self._uploads.held_by(client)} are yours; "
                f"{self._uploads.total} are allowed, and a client may have as many as remain free; try again later",
                limit=self._uploads.total,
            )
        try:
            yield
        finally:
            self._uploads.release(client)

    def hold(self, request: Request, num_bytes: int) -> None:
        """Count bytes of a body in memory until the end of the request.

        Raises:
            Overloaded: the memory for bodies, or the share of the client, is used up.
        """
        client = client_of(request)
        if not self._memory.take(client, num_bytes):
            raise Overloaded(
                f"the bodies of requests in progress take {self._memory.used} bytes; {self._memory.total} are allowed, "
                "and a client may have as many as remain free; try again later",
                limit_bytes=self._memory.total,
            )
        held: list[tuple[str, int]] = request.scope.setdefault("held_memory", [])
        held.append((client, num_bytes))

    def release(self, held: list[tuple[str, int]]) -> None:
        """Release the memory of a request that has ended; `held` is its `held_memory`."""
        for client, num_bytes in held:
            self._memory.release(client, num_bytes)

    async def chunks(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the chunks of a body, which must arrive at the minimum rate after a grace period.

        Raises:
            SlowBody: the body is too slow.
            ServerStopping: the body is too slow for a server that stops.
            ClientDisconnected: the client closed the connection.
        """
        settings, clock = self._settings, asyncio.get_running_loop().time
        start, num_bytes = clock(), 0
        credit = RateCredit(grace_seconds=settings.grace_seconds, min_bytes_per_second=settings.min_bytes_per_second)
        stream = request.stream()
        while True:
            waits_since = clock()
            try:
                async with asyncio.timeout(credit.seconds) as timeout:
                    chunk = await anext(stream, None)
            except ClientDisconnect as error:
                raise ClientDisconnected("the client disconnected before the body was complete") from error
            except TimeoutError as error:
                if not timeout.expired():
                    raise
                raise self._too_slow(num_bytes, clock() - start) from error
            if chunk is None:
                return
            num_bytes += len(chunk)
            credit.update(waited_seconds=clock() - waits_since, num_bytes=len(chunk))
            if chunk:
                yield chunk

    def _too_slow(self, num_bytes: int, seconds: float) -> SlowBody | ServerStopping:
        if self.is_stopping:
            return ServerStopping("the server is stopping, and the body of the request is incomplete")
        settings = self._settings
        return SlowBody(
            f"{num_bytes} bytes of the body arrived in {seconds:.1f} s; the server waits "
            f"{settings.grace_seconds:g} s, and longer only if {settings.min_bytes_per_second} bytes per second arrive",
            num_bytes=num_bytes,
            min_bytes_per_second=settings.min_bytes_per_second,
        )


def bodies_of(request: Request) -> BodyAdmission:
    """Return the bounds of the application that serves the request."""
    bodies: BodyAdmission = request.app.state.bodies
    return bodies
