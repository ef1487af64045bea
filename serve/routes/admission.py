"""How many requests with a video are worked on at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve.errors import Overloaded
from serve.service import Service


@asynccontextmanager
async def admitted(service: Service) -> AsyncIterator[None]:
    """Count a request in; past the limit it is refused before its upload is read.

    Raises:
        Overloaded: as many are under way as may be.
    """
    limit = service.settings.limits.max_in_flight
    if service.in_flight >= limit:
        raise Overloaded(f"{limit} requests are under way, no more may be", limit=limit)
    service.in_flight += 1
    service.metrics.in_flight.set(service.in_flight)
    try:
        yield
    finally:
        service.in_flight -= 1
        service.metrics.in_flight.set(service.in_flight)
