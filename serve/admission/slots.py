"""Slots of inference: which requests run, and in which order the others wait.

A request costs the views that it computes. Requests are queued by size (light, heavy, bulk) and client, see
`serve.admission.fair_queue`: requests of many views cannot starve those of few, nor one client the others. A slot is
taken when the upload is complete, so that a slow upload occupies none.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from prometheus_client import Gauge

from serve.admission.fair_queue import FairQueue
from serve.admission.shares import SharedLimit
from serve.errors import Overloaded

Result = TypeVar("Result")
Size = Literal["light", "heavy", "bulk"]
LIGHT_VIEWS = 3  # one clip with three crops
MIN_RUNNING = 2  # requests of each size that run side by side: one is decoded while the other is in the engine
SIZES: tuple[Size, ...] = ("light", "heavy", "bulk")
SMOOTHING = 0.1  # weight of the newest sample in the mean time per view
MAX_RETRY_SECONDS = 30


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A request in the queue; `start` completes when it may run."""

    size: Size
    client: str
    views: int
    start: asyncio.Future[None]


class InferenceSlots:
    """Runs requests while slots are free; the others wait in a fair queue with bounds."""

    def __init__(self, *, max_requests: int, max_waiting_views: int, running_views: int, gauge: Gauge) -> None:
        """Create slots for `running_views` concurrent views; at most `max_requests` requests run or wait."""
        self._running_views = running_views
        self._requests = SharedLimit(max_requests)
        self._waiting_views = SharedLimit(max_waiting_views)
        self._gauge = gauge
        self._queue: FairQueue[_Waiting] = FairQueue()
        self._num_running: Counter[Size] = Counter()
        self._views_running: Counter[Size] = Counter()
        self._num_queued: Counter[Size] = Counter()
        self._views_queued: Counter[Size] = Counter()
        self._seconds_per_view = 0.0
        self._last_end: float | None = None  # when a request last ended while others waited

    @property
    def num_waiting(self) -> int:
        """Number of interactive requests that wait for a slot."""
        return self._num_queued["light"] + self._num_queued["heavy"]

    def check(self, client: str, *, views: int = 1) -> None:
        """Check before an upload that a request of `client` would be queued now; it takes no place.

        Raises:
            Overloaded: the queue, or the share of the client, is full.
        """
        size = _size_of(views)
        if not self._has_place(size, client, views, deadline=None):
            raise self._overloaded(size)

    async def run(
        self,
        client: str,
        views: int,
        work: Callable[[], Awaitable[Result]],
        *,
        deadline: float | None = None,
        is_bulk: bool = False,
    ) -> Result:
        """Wait for a slot, then run `work` in it and return its result; cancellation leaves the queue.

        Raises:
            Overloaded: the queue, or the share of the client, is full, or the slot would come after the deadline.
        """
        size = "bulk" if is_bulk else _size_of(views)
        holder = (size, client)
        if not self._has_place(size, client, views, deadline=deadline):
            raise self._overloaded(size)
        self._requests.take(holder)
        self._gauge.set(self._requests.used)
        try:
            if not self._can_start(size) or size in self._queue.groups:
                await self._wait(_Waiting(size, client, views, asyncio.get_running_loop().create_future()))
            else:
                self._start(size, views)
            try:
                return await work()
            finally:
                self._end(size, views)
        finally:
            self._requests.release(holder)
            self._gauge.set(self._requests.used)

    async def _wait(self, waiting: _Waiting) -> None:
        """Wait until the request may run; it then counts as running."""
        holder, cost = (waiting.size, waiting.client), min(waiting.views, self._waiting_views.total)
        self._waiting_views.take(holder, cost)
        self._num_queued[waiting.size] += 1
        self._views_queued[waiting.size] += waiting.views
        self._queue.push(waiting.size, waiting.client, waiting, waiting.views)
        try:
            await waiting.start
        except asyncio.CancelledError:
            if waiting.start.done() and not waiting.start.cancelled():
                self._end(waiting.size, waiting.views)  # started and cancelled at the same moment
            else:
                self._queue.remove(waiting.size, waiting.client, waiting)
            raise
        finally:
            self._waiting_views.release(holder, cost)
            self._num_queued[waiting.size] -= 1
            self._views_queued[waiting.size] -= waiting.views

    def _has_place(self, size: Size, client: str, views: int, *, deadline: float | None) -> bool:
        holder = (size, client)
        if not self._requests.has_room(holder):
            return False
        if self._can_start(size) and size not in self._queue.groups:
            return True
        is_in_time = deadline is None or asyncio.get_running_loop().time() + self._expected_wait(size) < deadline
        return is_in_time and self._waiting_views.has_room(holder, min(views, self._waiting_views.total))

    def _can_start(self, size: Size) -> bool:
        """Return whether a request of this size may run now: there is room, or its size uses less than half of it."""
        return (
            self._num_running[size] < MIN_RUNNING
            or self._views_running[size] < self._running_views / 2
            or self._views_running.total() < self._running_views
        )

    def _start(self, size: Size, views: int) -> None:
        self._num_running[size] += 1
        self._views_running[size] += views

    def _end(self, size: Size, views: int) -> None:
        self._num_running[size] -= 1
        self._views_running[size] -= views
        self._measure(views)
        while (item := self._queue.pop([other for other in SIZES if self._can_start(other)])) is not None:
            if item.start.cancelled():
                continue  # its task is cancelled, and has not run since then
            self._start(item.size, item.views)
            item.start.set_result(None)

    def _measure(self, views: int) -> None:
        """Update the mean time per view, from the time between two ends while requests wait."""
        now = asyncio.get_running_loop().time()
        if self._last_end is not None:
            sample = (now - self._last_end) / views
            weight = SMOOTHING if self._seconds_per_view else 1.0
            self._seconds_per_view += weight * (sample - self._seconds_per_view)
        self._last_end = now if len(self._queue) else None

    def _expected_wait(self, size: Size) -> float:
        """Return the expected wait in seconds of a request that joins the queue of its size now."""
        return self._seconds_per_view * self._views_queued[size] * max(1, len(self._queue.groups))

    def _overloaded(self, size: Size) -> Overloaded:
        seconds = min(MAX_RETRY_SECONDS, max(1, math.ceil(self._expected_wait(size))))
        return Overloaded(
            f"{self._requests.used} requests are in progress and {self._waiting_views.used} views wait; "
            f"{self._requests.total} requests and {self._waiting_views.total} views are allowed, and a client may have "
            "as many as remain free; try again later",
            limit=self._requests.total,
            retry_after_seconds=seconds,
        )


def _size_of(views: int) -> Size:
    return "light" if views <= LIGHT_VIEWS else "heavy"
