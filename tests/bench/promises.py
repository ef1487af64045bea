"""Assertions of benchmarks: promises on figures, and controls whose figures must break them.

Each benchmark checks its figures with a function, and checks that the same function fails for the figures of something
broken: logits of noise, a server that ignores the version, a store that loses a write.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A figure and its allowed range."""

    words: str
    found: float
    least: float = float("-inf")
    most: float = float("inf")

    @property
    def holds(self) -> bool:
        """Return whether the figure is in the range; NaN is not."""
        return self.least <= self.found <= self.most


def settle(promises: Sequence[Promise], controls: Mapping[str, Sequence[Promise]]) -> None:
    """Print every promise and control.

    Raises:
        SystemExit: with status 1, if a promise is broken, a control breaks none, or there are no promises or controls.
    """
    for promise in promises:
        print(f"{'kept' if promise.holds else 'BROKEN':<8}{promise.words}: {promise.found:g} ({_range(promise)})")
    faults = [promise.words for promise in promises if not promise.holds]
    for name, broken in controls.items():
        caught = [promise.words for promise in broken if not promise.holds]
        print(f"{'caught' if caught else 'MISSED':<8}control, {name}: breaks {', '.join(caught) or 'nothing'}")
        faults += [] if caught else [f"control {name}"]
    if faults or not promises or not controls:
        raise SystemExit(1)


def spread(values: Sequence[float], unit: str) -> str:
    """Format number, median and range of measurements.

    >>> spread([1.0, 2.0, 9.0], "ms")
    'median 2 ms, 1 to 9, n = 3'
    """
    return f"median {statistics.median(values):.3g} {unit}, {min(values):.3g} to {max(values):.3g}, n = {len(values)}"


def share_error(count: int) -> float:
    """Return the largest possible three standard errors of a share of `count` independent trials."""
    return float(3 * np.sqrt(0.25 / count))


def _range(promise: Promise) -> str:
    if promise.least == promise.most:
        return f"has to be {promise.least:g}"
    parts = [f"at least {promise.least:g}"] if promise.least > float("-inf") else []
    return ", ".join([*parts, *([f"at most {promise.most:g}"] if promise.most < float("inf") else [])])
