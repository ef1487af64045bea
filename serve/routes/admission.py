"""Admission: the limits of concurrent requests with a video."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve.errors import Overloaded
from serve.service import Service


@asynccontextmanager
async def admitted(service: Service) -> AsyncIterator[None]:
    """Count a request while the block runs; beyond the limit, refuse it before its upload is read.

    Raises:
        Overloaded: the limit is reached.
    """
    limit = service.settings.limits.max_in_flight
    if service.in_flight >= limit:
        raise Overloaded(f"{limit} requests are in progress, which is the limit; try again later", limit=limit)
    service.in_flight += 1
    service.metrics.in_flight.set(service.in_flight)
    try:
        yield
    finally:
        service.in_flight -= 1
        service.metrics.in_flight.set(service.in_flight)


@asynccontextmanager
async def admitted_timeline(service: Service) -> AsyncIterator[None]:
    """Count a timeline while the block runs; beyond the limit, refuse it before its upload is read.

    Raises:
        Overloaded: the limit is reached.
    """
    limit = service.settings.timeline.max_concurrent
    if service.timelines_in_flight >= limit:
        raise Overloaded(f"{limit} timelines are in progress, which is the limit; try again later", limit=limit)
    service.timelines_in_flight += 1
    service.metrics.timelines_in_flight.set(service.timelines_in_flight)
    try:
        yield
    finally:
        service.timelines_in_flight -= 1
        service.metrics.timelines_in_flight.set(service.timelines_in_flight)
