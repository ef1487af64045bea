"""Micro-batching: run the inputs of concurrent requests through a graph in one batch.

A row is one entry of the first axis of an input: a view or a token sequence. Batches form while the graph is busy;
`max_delay_ms` adds a wait for more rows when it is idle. Inputs take turns row by row, so that an input of one row does
not wait for all rows of a large one. The queue is bounded, each input has a deadline, and every future completes with
outputs, with an error, or by cancellation.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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
class _Input:
    """The rows of one call, which may be spread over several batches."""

    rows: NDArray[Any]
    deadline: float
    future: asyncio.Future[Outputs]
    queued_at: float  # seconds on the event loop's clock
    started_at: float = 0.0
    num_taken: int = 0  # rows that are in a batch
    parts: list[Outputs] = field(default_factory=list)  # outputs of the batches that are done, in order

    @property
    def num_queued(self) -> int:
        """Number of rows that wait for a batch."""
        return len(self.rows) - self.num_taken

    def add(self, outputs: Outputs) -> None:
        """Add the outputs of the next rows; the last ones complete the future."""
        self.parts.append(outputs)
        if self.future.done() or sum(len(next(iter(part.values()))) for part in self.parts) < len(self.rows):
            return
        self.future.set_result(
            {name: np.concatenate([part[name] for part in self.parts]) for name in outputs}
            if len(self.parts) > 1
            else outputs
        )


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """The rows [start, stop) of an input."""

    source: _Input
    start: int
    stop: int

    @property
    def rows(self) -> NDArray[Any]:
        return self.source.rows[self.start : self.stop]


class MicroBatcher:
    """Combines the rows of several callers into batches of at most `max_rows`."""

    def __init__(self, run_batch: RunBatch, *, max_rows: int, max_delay_ms: float, max_queued_rows: int) -> None:
        self._run_batch = run_batch
        self._max_rows = max_rows
        self._max_delay = max_delay_ms / 1000
        self._max_queued = max_queued_rows
        self._queue: deque[_Input] = deque()
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
        item = _Input(rows, deadline, loop.create_future(), loop.time())
        self._queue.append(item)
        self._queued_rows += len(rows)
        self._wake.set()
        try:
            outputs = await item.future
        except asyncio.CancelledError:
            self._drop(item)  # its rows are not needed
            raise
        return BatchResult(outputs=outputs, queue_seconds=item.started_at - item.queued_at)

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

    def _drop(self, item: _Input) -> None:
        """Remove an input from the queue, if it is there."""
        if item in self._queue:
            self._queue.remove(item)
            self._queued_rows -= item.num_queued

    def _next_batch(self) -> list[_Slice]:
        """Take the rows of the next batch, one of each input in turn; drop inputs that failed or expired."""
        now = asyncio.get_running_loop().time()
        starts: dict[_Input, int] = {}  # first row of each input in this batch
        for _ in range(self._max_rows):
            item = self._next_input(now)
            if item is None:
                break
            starts.setdefault(item, item.num_taken)
            if item.num_taken == 0:
                item.started_at = now
            item.num_taken += 1
            self._queued_rows -= 1
            if item.num_queued:
                self._queue.append(item)
        return [_Slice(source=item, start=start, stop=item.num_taken) for item, start in starts.items()]

    def _next_input(self, now: float) -> _Input | None:
        """Remove and return the first input that needs to run; None if there is none."""
        while self._queue:
            item = self._queue.popleft()
            if not item.future.done() and now < item.deadline:
                return item
            self._queued_rows -= item.num_queued
            if not item.future.done():
                item.future.set_exception(
                    DeadlineExceeded("the deadline passed while the request waited for the engine")
                )
        return None

    async def _run_batch_items(self, batch: list[_Slice]) -> None:
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
            item.source.add({name: value[start:stop] for name, value in outputs.items()})
            start = stop

    @staticmethod
    def _fail(batch: list[_Slice], error: Exception) -> None:
        for item in batch:
            if not item.source.future.done():
                item.source.future.set_exception(error)
