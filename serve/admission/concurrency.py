"""Limits of the number of concurrent requests of one kind."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from serve.admission.shares import SharedLimit
from serve.errors import Overloaded


class ConcurrencyLimit:
    """Limits the number of concurrent requests of one kind and reports it in `gauge`; `noun` names them in messages.

    A client may have at most as many requests in progress as places remain free; see `serve.admission.shares`.
    """

    def __init__(self, limit: int, gauge: Gauge, *, noun: str) -> None:
        self._limit, self._gauge, self._noun = limit, gauge, noun
        self._places = SharedLimit(limit)

    def check(self, client: str) -> None:
        """Check that a request of `client` would be admitted now; it takes no place.

        Raises:
            Overloaded: the limit, or the share of the client, is reached.
        """
        if not self._places.has_room(client):
            raise self._overloaded(client)

    @contextmanager
    def admit(self, client: str) -> Iterator[None]:
        """Count a request of `client` as in progress during the block.

        Raises:
            Overloaded: the limit, or the share of the client, is reached.
        """
        if not self._places.take(client):
            raise self._overloaded(client)
        self._gauge.set(self._places.used)
        try:
            yield
        finally:
            self._places.release(client)
            self._gauge.set(self._places.used)

    def _overloaded(self, client: str) -> Overloaded:
        used = self._places.used
        if used >= self._limit:
            message = f"{self._limit} {self._noun} are in progress, which is the limit; try again later"
        else:
            message = (
                f"{self._places.held_by(client)} of {used} {self._noun} in progress are yours, and a client may have "
                f"at most as many as remain free of the limit of {self._limit}; try again later"
            )
        return Overloaded(message, limit=self._limit)
