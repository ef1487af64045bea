"""Micro-batching: rows come back to their request, queues are bounded, every wait ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
import pytest

from serve.batcher import BatchResult, MicroBatcher, Outputs
from serve.errors import DeadlineExceeded, EngineFailure, EngineUnavailable, Overloaded
from tests.waiting import until

NEVER = float("inf")
settled = partial(until, pause_seconds=0)


class Doubler:
    """A graph that doubles its rows once `gate` is open, and remembers the size of each run."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.sizes: list[int] = []

    async def __call__(self, rows: np.ndarray) -> Outputs:
        await self.gate.wait()
        self.sizes.append(len(rows))
        if (rows < 0).any():
            raise ValueError("negative")
        return {"video_features": rows.astype(np.float32) * 2}


@asynccontextmanager
async def running(graph: Doubler, *, max_rows: int = 4, max_queued_rows: int = 16) -> AsyncIterator[MicroBatcher]:
    batcher = MicroBatcher(graph, max_rows=max_rows, max_delay_ms=0, max_queued_rows=max_queued_rows)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.close()


def rows(*values: int) -> np.ndarray:
    return np.array(values)[:, None]


async def under_way(batcher: MicroBatcher) -> asyncio.Task[BatchResult]:
    """A request of one row that has reached the graph."""
    task = asyncio.create_task(batcher.submit(rows(1), deadline=NEVER))
    await settled(lambda: batcher.queued_rows == 1)
    await settled(lambda: batcher.queued_rows == 0)
    return task


async def test_concurrent_requests_share_runs_and_get_their_own_rows() -> None:
    graph = Doubler()
    graph.gate.clear()
    async with running(graph) as batcher:
        tasks = [asyncio.create_task(batcher.submit(rows(i, i + 100), deadline=NEVER)) for i in range(5)]
        await settled(lambda: batcher.queued_rows == 6)  # the first two are already in the graph
        graph.gate.set()
        answers = await asyncio.gather(*tasks)
    for i, answer in enumerate(answers):
        assert answer.outputs["video_features"].tolist() == [[2 * i], [2 * (i + 100)]]
    assert graph.sizes == [4, 4, 2]
    assert batcher.batch_sizes == {4: 2, 2: 1}


async def test_the_wait_for_a_turn_is_reported() -> None:
    graph = Doubler()
    graph.gate.clear()
    async with running(graph) as batcher:
        clock = asyncio.get_running_loop().time
        begun = clock()
        first = await under_way(batcher)
        second = asyncio.create_task(batcher.submit(rows(2), deadline=NEVER))
        first_is_running = clock()
        await settled(lambda: batcher.queued_rows == 1)
        second_is_queued = clock()
        await asyncio.sleep(0.01)
        opened = clock()
        graph.gate.set()
        assert 0 <= (await first).queue_seconds <= first_is_running - begun
        assert opened - second_is_queued <= (await second).queue_seconds <= clock() - first_is_running


async def test_a_request_larger_than_a_run_comes_back_in_order() -> None:
    graph = Doubler()
    async with running(graph, max_rows=4, max_queued_rows=4) as batcher:
        answer = await batcher.submit(rows(*range(10)), deadline=NEVER)
    assert answer.outputs["video_features"].ravel().tolist() == [2 * i for i in range(10)]
    assert graph.sizes == [4, 4, 2]


async def test_a_full_queue_refuses() -> None:
    graph = Doubler()
    graph.gate.clear()
    async with running(graph, max_queued_rows=4) as batcher:
        first = await under_way(batcher)
        waiting = asyncio.create_task(batcher.submit(rows(1, 2, 3), deadline=NEVER))
        await settled(lambda: batcher.queued_rows == 3)
        with pytest.raises(Overloaded, match="3 views are queued"):
            await batcher.submit(rows(1, 2), deadline=NEVER)
        graph.gate.set()
        await asyncio.gather(first, waiting)


async def test_late_and_cancelled_requests_are_not_run() -> None:
    graph = Doubler()
    graph.gate.clear()
    async with running(graph) as batcher:
        first = await under_way(batcher)
        now = asyncio.get_running_loop().time()
        late = asyncio.create_task(batcher.submit(rows(2), deadline=now))
        cancelled = asyncio.create_task(batcher.submit(rows(3), deadline=NEVER))
        good = asyncio.create_task(batcher.submit(rows(4), deadline=NEVER))
        await settled(lambda: batcher.queued_rows == 3)
        cancelled.cancel()
        await asyncio.sleep(0)
        graph.gate.set()
        with pytest.raises(DeadlineExceeded):
            await late
        assert (await good).outputs["video_features"].tolist() == [[8]]
        await first
    assert graph.sizes == [1, 1]


async def test_a_failed_run_fails_its_requests_and_the_next_goes_on() -> None:
    graph = Doubler()
    async with running(graph) as batcher:
        with pytest.raises(EngineFailure, match="negative"):
            await batcher.submit(rows(-1), deadline=NEVER)
        assert (await batcher.submit(rows(1), deadline=NEVER)).outputs["video_features"].tolist() == [[2]]


async def test_closing_ends_every_wait() -> None:
    graph = Doubler()
    graph.gate.clear()
    async with running(graph) as batcher:
        first = await under_way(batcher)
        tasks = [first, *(asyncio.create_task(batcher.submit(rows(i, i, i), deadline=NEVER)) for i in range(2))]
        await settled(lambda: batcher.queued_rows == 6)
    for task in tasks:
        with pytest.raises(EngineUnavailable):
            await task
    with pytest.raises(EngineUnavailable):
        await batcher.submit(rows(1), deadline=NEVER)


async def test_a_small_request_does_not_wait_for_all_rows_of_a_large_one() -> None:
    graph = Doubler()
    graph.gate.clear()
    async with running(graph, max_rows=4, max_queued_rows=64) as batcher:
        first = await under_way(batcher)
        large = asyncio.create_task(batcher.submit(rows(*range(30)), deadline=NEVER))
        await settled(lambda: batcher.queued_rows == 30)
        small = asyncio.create_task(batcher.submit(rows(7), deadline=NEVER))
        await settled(lambda: batcher.queued_rows == 31)
        order: list[str] = []
        small.add_done_callback(lambda _: order.append("small"))
        large.add_done_callback(lambda _: order.append("large"))
        graph.gate.set()
        assert (await small).outputs["video_features"].tolist() == [[14]]
        assert (await large).outputs["video_features"].ravel().tolist() == [2 * i for i in range(30)]
        await first
    assert order == ["small", "large"]


async def test_the_rows_of_a_cancelled_request_leave_the_queue() -> None:
    graph = Doubler()
    graph.gate.clear()
    async with running(graph, max_rows=4) as batcher:
        first = await under_way(batcher)
        large = asyncio.create_task(batcher.submit(rows(*range(10)), deadline=NEVER))
        await settled(lambda: batcher.queued_rows == 10)
        large.cancel()
        await settled(lambda: batcher.queued_rows == 0)
        graph.gate.set()
        await first
    assert graph.sizes == [1]
