"""Admission: the limits of concurrent requests with a video."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from serve.errors import Overloaded


class InFlight:
    """Requests of one kind in progress, shown by `gauge`, and their limit; `words` name them in messages."""

    def __init__(self, limit: int, gauge: Gauge, *, words: str) -> None:
        self._limit, self._gauge, self._words = limit, gauge, words
        self._count = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request while the block runs; beyond the limit, refuse it before its upload is read.

        Raises:
            Overloaded: the limit is reached.
        """
        if self._count >= self._limit:
            message = f"{self._limit} {self._words} are in progress, which is the limit; try again later"
            raise Overloaded(message, limit=self._limit)
        self._count += 1
        self._gauge.set(self._count)
        try:
            yield
        finally:
            self._count -= 1
            self._gauge.set(self._count)
