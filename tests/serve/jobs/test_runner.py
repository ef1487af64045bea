"""The loop over many inputs: outcomes, order, bounds, and what stops it."""

import asyncio
from contextlib import aclosing

import pytest

from serve.errors import UnsupportedMedia
from serve.jobs.runner import STARTED_PER_WORKER, InputProblem, Outcome, RunStopped, run_inputs


async def process(item: int) -> int:
    """Fail on multiples of 5; later inputs end first."""
    for _ in range(20 - item):
        await asyncio.sleep(0)
    if item == 5:
        raise UnsupportedMedia("no video")
    if item == 10:
        raise ZeroDivisionError
    if item == 15:
        raise InputProblem({"status": 418, "detail": "elsewhere"})
    return item * item


@pytest.mark.parametrize("is_ordered", [True, False], ids=["ordered", "as they end"])
async def test_every_input_has_one_outcome(is_ordered: bool) -> None:
    outcomes = [outcome async for outcome in run_inputs(range(20), process, workers=3, is_ordered=is_ordered)]
    positions = [outcome.index for outcome in outcomes]
    assert sorted(positions) == list(range(20))
    assert not is_ordered or positions == sorted(positions)
    problems = {outcome.index: outcome.problem["status"] for outcome in outcomes if outcome.problem is not None}
    assert problems == {5: 415, 10: 500, 15: 418}
    assert all(outcome.result == outcome.item**2 for outcome in outcomes if outcome.index not in problems)


@pytest.mark.parametrize("is_ordered", [True, False], ids=["ordered", "as they end"])
async def test_workers_wait_for_a_slow_consumer(is_ordered: bool) -> None:
    running, most_running, started = 0, 0, 0

    async def count(item: int) -> int:
        nonlocal running, most_running, started
        running, started = running + 1, started + 1
        most_running = max(running, most_running)
        await asyncio.sleep(0)
        running -= 1
        return item

    consumed = 0
    async for _ in run_inputs(iter(range(100)), count, workers=2, is_ordered=is_ordered):
        for _ in range(50):  # the workers may go on meanwhile
            await asyncio.sleep(0)
        consumed += 1
        assert started - consumed < 2 * STARTED_PER_WORKER + 2 * STARTED_PER_WORKER * (not is_ordered)
    assert (consumed, most_running) == (100, 2)


async def test_an_error_of_all_inputs_stops_the_run() -> None:
    async def fail(item: int) -> int:
        if item == 3:
            raise RunStopped from OSError("gone")
        return item

    with pytest.raises(RunStopped) as stopped:
        [_ async for _ in run_inputs(range(100), fail, workers=1, is_ordered=True)]
    assert isinstance(stopped.value.__cause__, OSError)


async def test_closing_cancels_the_inputs_in_progress() -> None:
    cancelled = []

    async def wait(item: int) -> int:
        if item == 0:
            return item
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    outcomes = run_inputs(range(10), wait, workers=3, is_ordered=True)
    async with aclosing(outcomes):
        first: Outcome[int, int] = await anext(outcomes)
        while len(asyncio.all_tasks()) < 3:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert first.result == 0
    assert cancelled == [1, 2, 3]
