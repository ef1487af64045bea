"""Background work: what jobs do, which use what interactive requests leave.

Work inside `in_background` decodes in processes of low priority and goes to the engine in turns of one view or window:
one at a time for all background work of the server, and only while no view of an interactive request waits. So an
interactive request waits for at most one such turn.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Protocol

import numpy as np

from serve.arrays import Float32Array, UInt8Array
from serve.errors import Overloaded
from serve.features import VideoFeatures
from serve.telemetry import spans

PAUSE_SECONDS = 0.02  # before it is checked again whether interactive views wait


class QueueingEngine(Protocol):
    """The part of an engine that turns need."""

    @property
    def queued_views(self) -> int:
        """Number of views waiting for the video graph."""

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        """Encode views [V, T, 3, S, S]."""


class Lane:
    """The turns of all background work of one server."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, engine: QueueingEngine) -> AsyncIterator[None]:
        """Wait until no other background work runs and no interactive view waits, and hold the turn in the block."""
        async with self._lock:
            while engine.queued_views:  # noqa: ASYNC110 - engines tell no event
                await asyncio.sleep(PAUSE_SECONDS)
            yield


_lane: ContextVar[Lane | None] = ContextVar("lane", default=None)


@contextmanager
def in_background(lane: Lane) -> Iterator[None]:
    """Make the work of the block, and of the tasks it starts, background work."""
    token = _lane.set(lane)
    try:
        yield
    finally:
        _lane.reset(token)


def is_background() -> bool:
    """Return whether the current task does background work."""
    return _lane.get() is not None


@asynccontextmanager
async def turn(engine: QueueingEngine) -> AsyncIterator[None]:
    """Hold the turn of background work in the block; interactive work waits for none."""
    lane = _lane.get()
    if lane is None:
        yield
        return
    async with lane.turn(engine):
        yield


async def encode_views(engine: QueueingEngine, views: UInt8Array, *, deadline: float) -> VideoFeatures:
    """Encode views [V, T, 3, S, S]: at once, or one after the other in turns of background work.

    Raises:
        Overloaded: the queue is full; background work waits instead.
        DeadlineExceeded, EngineFailure: see `Engine.encode_video`.
    """
    with spans.span("engine", views=len(views)):
        if not is_background():
            return await engine.encode_video(views, deadline=deadline)
        return _joined([await _in_turn(engine, views[place : place + 1], deadline) for place in range(len(views))])


async def _in_turn(engine: QueueingEngine, view: UInt8Array, deadline: float) -> VideoFeatures:
    while True:
        async with turn(engine):
            try:
                return await engine.encode_video(view, deadline=deadline)
            except Overloaded:
                await asyncio.sleep(PAUSE_SECONDS)


def _joined(parts: list[VideoFeatures]) -> VideoFeatures:
    return VideoFeatures(
        video_features=np.concatenate([part.video_features for part in parts]),
        patch_features=_rows([part.patch_features for part in parts]),
        prototype_features=_rows([part.prototype_features for part in parts]),
        queue_ms=sum(part.queue_ms for part in parts),
    )


def _rows(parts: list[Float32Array | None]) -> Float32Array | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None
