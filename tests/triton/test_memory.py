"""The region in which views wait for a Triton server: blocks that never overlap, and nothing left of it."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from serve.engines.triton_memory import MEMORY_FOLDER, SharedRegion
from tests.waiting import eventually

PAGES = 4096


@pytest.fixture
def region() -> Iterator[SharedRegion]:
    made = SharedRegion(PAGES)
    yield made
    made.close()
    assert not (MEMORY_FOLDER / made.name).exists()


def bytes_of(region: SharedRegion, start: int, count: int) -> bytes:
    return (MEMORY_FOLDER / region.name).read_bytes()[start : start + count]


def views(value: int, count: int) -> np.ndarray:
    return np.full(count, value, np.uint8)


def test_lent_blocks_lie_apart_and_hold_what_was_written(region: SharedRegion) -> None:
    random = np.random.default_rng(0)
    lent: list[tuple[contextlib.ExitStack, int, int, int]] = []
    for step in range(400):
        if lent and random.random() < 0.5:
            lent.pop(int(random.integers(len(lent))))[0].close()
            continue
        stack, value, count = contextlib.ExitStack(), step % 256, int(random.integers(1, 900))
        place = stack.enter_context(region.allocate(views(value, count)))
        if place is not None:
            lent.append((stack, place[1], value, count))
        for _, start, expected, size in lent:
            assert bytes_of(region, start, size) == bytes([expected]) * size
    for stack, *_ in lent:
        stack.close()
    with region.allocate(views(1, PAGES)) as place:
        assert place == (region.name, 0)  # all of it is free again


def test_no_room_is_reported_as_none(region: SharedRegion) -> None:
    with region.allocate(views(1, PAGES)) as place, region.allocate(views(2, 1)) as other:
        assert place is not None
        assert other is None
    with region.allocate(views(3, PAGES + 1)) as place:
        assert place is None


def test_memory_that_is_not_there_is_refused_at_once_and_leaves_nothing() -> None:
    before = set(MEMORY_FOLDER.iterdir())
    with pytest.raises(OSError, match="No space left"):
        SharedRegion(2**40)
    assert set(MEMORY_FOLDER.iterdir()) <= before


def test_a_process_that_is_killed_leaves_nothing() -> None:
    """Python's resource tracker outlives the process and removes the region."""
    program = (
        "import signal; from serve.engines.triton_memory import SharedRegion; "
        f"print(SharedRegion({PAGES}).name, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path = MEMORY_FOLDER / process.stdout.readline().strip()
        assert path.exists()
        process.send_signal(signal.SIGKILL)
    assert eventually(lambda: not path.exists())
