"""Micro-batching: run the inputs of concurrent requests through a graph in one batch.

A row is one entry of the first axis of an input: a view or a token sequence. Batches form while the graph is busy;
`max_delay_ms` adds a wait for more rows when it is idle. The queue is bounded, each item has a deadline, and every
future completes with outputs, with an error, or by cancellation.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array
from serve.errors import ActserveError, DeadlineExceeded, EngineFailure, EngineUnavailable, Overloaded

Outputs = dict[str, Float32Array]  # tensor name -> [n, ...]
RunBatch = Callable[[NDArray[Any]], Awaitable[Outputs]]


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Result of `submit`."""

    outputs: Outputs
    queue_seconds: float  # time until the batch with the first row started


@dataclass(eq=False)
class _QueuedRows:
    rows: NDArray[Any]
    deadline: float
    future: asyncio.Future[Outputs]
    queued_at: float  # seconds on the event loop's clock
    started_at: float = 0.0


class MicroBatcher:
    """Combines the rows of several callers into batches of at most `max_rows`."""

    def __init__(self, run_batch: RunBatch, *, max_rows: int, max_delay_ms: float, max_queued_rows: int) -> None:
        self._run_batch = run_batch
        self._max_rows = max_rows
        self._max_delay = max_delay_ms / 1000
        self._max_queued = max_queued_rows
        self._queue: deque[_QueuedRows] = deque()
        self._queued_rows = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.batch_sizes: Counter[int] = Counter()  # number of batches that have been run, by their rows

    @property
    def queued_rows(self) -> int:
        """Number of rows that wait in the queue."""
        return self._queued_rows

    def start(self) -> None:
        """Start the batching task; requires a running event loop."""
        self._task = asyncio.create_task(self._run_batches(), name="micro-batcher")

    async def submit(self, rows: NDArray[Any], *, deadline: float) -> BatchResult:
        """Run rows [n, ...] and return outputs by name, each [n, ...]; more than `max_rows` rows take several batches.

        Raises:
            Overloaded: the queue is full.
            DeadlineExceeded: the rows were still in the queue at `deadline` (event loop seconds).
            EngineUnavailable: the batcher is closed.
        """
        if self._task is None or self._task.done():
            raise EngineUnavailable("the engine is closed")
        if self._queued_rows + len(rows) > max(self._max_queued, len(rows)):
            raise Overloaded(
                f"{self._queued_rows} views are queued and {self._max_queued} are allowed; try again later",
                queued=self._queued_rows,
                limit=self._max_queued,
            )
        loop = asyncio.get_running_loop()
        items = [
            _QueuedRows(rows[start : start + self._max_rows], deadline, loop.create_future(), loop.time())
            for start in range(0, len(rows), self._max_rows)
        ]
        for item in items:
            self._queue.append(item)
            self._queued_rows += len(item.rows)
        self._wake.set()
        try:
            parts = await asyncio.gather(*(item.future for item in items))
        except BaseException:
            for item in items:  # the remaining items of this call are not needed
                item.future.cancel()
            raise
        outputs = (
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if len(parts) > 1 else parts[0]
        )
        return BatchResult(outputs=outputs, queue_seconds=items[0].started_at - items[0].queued_at)

    async def close(self) -> None:
        """Stop the task; waiting callers get `EngineUnavailable`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._queue:
            item = self._queue.popleft()
            if not item.future.done():
                item.future.set_exception(EngineUnavailable("the engine was closed"))
        self._queued_rows = 0

    async def _run_batches(self) -> None:
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            if self._max_delay and self._queued_rows < self._max_rows:
                await asyncio.sleep(self._max_delay)
            batch = self._next_batch()
            if batch:
                await self._run_batch_items(batch)

    def _next_batch(self) -> list[_QueuedRows]:
        """Remove and return the next items that fit into one batch; drop cancelled and expired ones."""
        now = asyncio.get_running_loop().time()
        batch: list[_QueuedRows] = []
        room = self._max_rows
        while self._queue and len(self._queue[0].rows) <= room:
            item = self._queue.popleft()
            self._queued_rows -= len(item.rows)
            if item.future.done():
                continue
            if now >= item.deadline:
                item.future.set_exception(
                    DeadlineExceeded("the deadline passed while the request waited for the engine")
                )
                continue
            item.started_at = now
            batch.append(item)
            room -= len(item.rows)
        return batch

    async def _run_batch_items(self, batch: list[_QueuedRows]) -> None:
        rows = np.concatenate([item.rows for item in batch]) if len(batch) > 1 else batch[0].rows
        try:
            outputs = await self._run_batch(rows)
        except asyncio.CancelledError:
            self._fail(batch, EngineUnavailable("the engine was closed"))
            raise
        except ActserveError as error:
            self._fail(batch, error)
            return
        except Exception as error:  # an unexpected error must not leave callers waiting
            self._fail(batch, EngineFailure(f"the engine failed: {error}"))
            return
        self.batch_sizes[len(rows)] += 1
        start = 0
        for item in batch:
            stop = start + len(item.rows)
            if not item.future.done():
                item.future.set_result({name: value[start:stop] for name, value in outputs.items()})
            start = stop

    @staticmethod
    def _fail(batch: list[_QueuedRows], error: Exception) -> None:
        for item in batch:
            if not item.future.done():
                item.future.set_exception(error)
