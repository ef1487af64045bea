"""Fair queues, shared limits and slots: who is served, and how much one client may take."""

import asyncio
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry, Gauge

from serve.admission.fair_queue import FairQueue
from serve.admission.shares import SharedLimit
from serve.admission.slots import InferenceSlots
from serve.errors import Overloaded
from tests.waiting import until


def slots(*, max_requests: int = 64, max_waiting_views: int = 256, running_views: int = 4) -> InferenceSlots:
    return InferenceSlots(
        max_requests=max_requests,
        max_waiting_views=max_waiting_views,
        running_views=running_views,
        gauge=Gauge("requests", "Requests.", registry=CollectorRegistry()),
    )


def test_groups_and_clients_are_served_in_proportion_to_their_cost() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number in range(100):
        for client in ("a", "b"):
            queue.push("heavy", client, (f"heavy {client}", number), 30)
        queue.push("light", "a", ("light a", number), 1)
    served = Counter(item[0] for _ in range(104) if (item := queue.pop(["light", "heavy"])) is not None)
    assert served["light a"] >= 90  # 100 views against at most 4 x 30
    assert abs(served["heavy a"] - served["heavy b"]) <= 1


def test_a_client_that_comes_late_saves_up_nothing() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for number in range(50):
        queue.push("light", "early", ("early", number), 1)
    for _ in range(40):
        queue.pop(["light"])
    for number in range(10):
        queue.push("light", "late", ("late", number), 1)
    served = [item[0] for _ in range(10) if (item := queue.pop(["light"])) is not None]
    assert served.count("early") == 5


def test_a_client_that_leaves_and_returns_does_not_forget_its_service() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    queue.push("heavy", "a", ("a", 0), 30)
    queue.push("heavy", "b", ("b", 0), 30)
    assert queue.pop(["heavy"]) == ("a", 0)
    queue.push("heavy", "a", ("a", 1), 30)
    assert queue.pop(["heavy"]) == ("b", 0)


def test_removed_items_are_not_served() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(3):
        queue.push("light", "a", number, 1)
    queue.remove("light", "a", 1)
    queue.remove("light", "a", 7)
    assert [queue.pop(["light"]) for _ in range(3)] == [0, 2, None]
    assert len(queue) == 0 and not queue.groups


def test_a_holder_takes_as_much_as_remains_free() -> None:
    limit = SharedLimit(64)
    while limit.take("greedy"):
        pass
    assert limit.held_by("greedy") == 33
    while limit.take("second"):
        pass
    assert limit.take("third"), "a later holder finds a place"
    limit.release("greedy", 33)
    assert limit.used == limit.held_by("second") + 1


@pytest.mark.parametrize("total", [1, 2])
def test_a_small_limit_can_be_used_by_one_holder(total: int) -> None:
    limit = SharedLimit(total)
    assert [limit.take("only") for _ in range(total + 1)] == [True] * total + [False]


async def test_heavy_requests_of_many_clients_do_not_starve_light_ones() -> None:
    """A graph that takes a fixed time per view serves 60 clients of 30 views beside three clients of one view."""
    ended: Counter[str] = Counter()
    graph = asyncio.Lock()
    admission, views_left = slots(running_views=18), 600

    async def compute(views: int) -> None:
        nonlocal views_left
        for _ in range(views):
            async with graph:
                await asyncio.sleep(0)
                views_left -= 1

    async def client(name: str, kind: str, views: int) -> None:
        while views_left > 0:
            try:
                await admission.run(name, views, lambda: compute(views))
                ended[kind] += 1
            except Overloaded:
                await asyncio.sleep(0)

    heavy = [client(f"heavy {number}", "heavy", 30) for number in range(60)]
    await asyncio.gather(*heavy, *(client(f"light {number}", "light", 1) for number in range(3)))
    assert ended["light"] >= 150, "a quarter of the views, although the light clients are 3 of 63"
    assert ended["heavy"] >= 5


async def test_a_slot_that_is_waited_for_can_be_cancelled() -> None:
    admission, gate = slots(running_views=1), asyncio.Event()

    async def work() -> None:
        await gate.wait()

    running = [asyncio.create_task(admission.run("a", 1, work)) for _ in range(2)]
    waiting = [asyncio.create_task(admission.run("a", 1, work)) for _ in range(3)]
    await until(lambda: admission.num_waiting == 3, pause_seconds=0)
    waiting[1].cancel()
    await until(lambda: admission.num_waiting == 2, pause_seconds=0)
    gate.set()
    results = await asyncio.gather(*running, *waiting, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, False, False, True, False]
    assert admission.num_waiting == 0


async def test_a_full_queue_refuses_with_a_time_to_retry() -> None:
    admission, gate = slots(max_requests=3, running_views=1), asyncio.Event()

    async def work() -> None:
        await gate.wait()

    tasks = [asyncio.create_task(admission.run(name, 1, work)) for name in "abc"]
    await until(lambda: admission.num_waiting == 1, pause_seconds=0)
    with pytest.raises(Overloaded, match="3 requests are in progress") as refusal:
        await admission.run("d", 1, work)
    assert refusal.value.details["retry_after_seconds"] >= 1
    with pytest.raises(Overloaded):
        admission.check("d")
    gate.set()
    await asyncio.gather(*tasks)
    admission.check("d")
