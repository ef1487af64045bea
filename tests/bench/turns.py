"""Measure alternating variants, so that other load affects all of them."""

import time
from collections.abc import Callable, Mapping

WARM_UP = 2  # rounds that are not counted


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each variant in each counted round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(WARM_UP + rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if number >= WARM_UP:
                found[name].append((time.perf_counter() - begun) * 1000)
    return found
