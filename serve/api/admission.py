"""Admission control: limits of the number of concurrent requests."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from serve.errors import Overloaded


class ConcurrencyLimit:
    """Limits the number of concurrent requests of one kind and reports it in `gauge`; `noun` names them in messages."""

    def __init__(self, limit: int, gauge: Gauge, *, noun: str) -> None:
        self._limit, self._gauge, self._noun = limit, gauge, noun
        self._count = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request as in progress during the block. Enter it before the upload is read.

        Raises:
            Overloaded: the limit is reached.
        """
        if self._count >= self._limit:
            message = f"{self._limit} {self._noun} are in progress, which is the limit; try again later"
            raise Overloaded(message, limit=self._limit)
        self._count += 1
        self._gauge.set(self._count)
        try:
            yield
        finally:
            self._count -= 1
            self._gauge.set(self._count)
