"""How far figures would move with other videos: bootstrap intervals, of one model and of two on the same videos.

As many videos are drawn, with replacement, as there are. Where values repeat (hits do), how often each is drawn follows
a multinomial distribution, so counts are drawn instead of videos: the same distribution for a fraction of the work.
Other values are drawn in portions, so memory stays small whatever the number of videos. The seed is fixed: the same
values give the same interval. `scipy.stats.bootstrap` agrees (a test compares them), but draws single videos:
200 million indices for 20,000 videos. Where every video is a hit nothing can vary, and the interval is a point.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from serve.arrays import Float64Array, Int64Array

DRAWS, CONFIDENCE, SEED = 10_000, 0.95, 0
DISTINCT = 64  # values up to which counts are drawn
CELLS = 4_000_000  # numbers held at a time

Values = NDArray[np.bool_] | NDArray[np.integer] | NDArray[np.floating]


class Interval(NamedTuple):
    """Central 95 % of what drawing gives."""

    low: float
    high: float


def mean_interval(values: Values, *, num_draws: int = DRAWS) -> Interval:
    """Of the mean of values [N].

    Raises:
        ValueError: there is no value.
    """
    return _central(mean_draws(values, num_draws=num_draws))


def class_mean_interval(values: Values, labels: Int64Array, *, num_draws: int = DRAWS) -> Interval:
    """Of the mean over classes of the mean of values [N] in a class; a draw without videos of a class leaves it out.

    Raises:
        ValueError: there is no value.
    """
    return _central(class_mean_draws(values, labels, num_draws=num_draws))


def paired_bootstrap(candidate: Values, active: Values) -> tuple[float, Interval]:
    """Values [N] of two models on the same videos -> difference of the means and its interval."""
    pairs = candidate.astype(np.float64) - active.astype(np.float64)
    return float(pairs.mean()), mean_interval(pairs)


def mcnemar(candidate: NDArray[np.bool_], active: NDArray[np.bool_]) -> float:
    """Exact two-sided p that two models hit equally often, of the videos that one of them alone got right.

    Source: McNemar 1947, with the binomial distribution instead of its approximation.
    """
    gained, lost = int((candidate & ~active).sum()), int((active & ~candidate).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def mean_draws(values: Values, *, num_draws: int = DRAWS, seed: int = SEED) -> Float64Array:
    """Means of values [N] drawn with replacement [num_draws].

    Raises:
        ValueError: there is no value.
    """
    if not len(values):
        raise ValueError("nothing to draw from: at least one value is needed")
    random = np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= DISTINCT:
        drawn = random.multinomial(len(values), counts / len(values), size=num_draws)  # [draws, distinct]
        return drawn @ distinct.astype(np.float64) / len(values)
    whole = values.astype(np.float64)
    parts = [
        whole[random.integers(0, len(whole), (size, len(whole)), dtype=np.int32)].mean(axis=1)
        for size in _portions(num_draws, len(whole))
    ]
    return np.concatenate(parts)


def class_mean_draws(values: Values, labels: Int64Array, *, num_draws: int = DRAWS, seed: int = SEED) -> Float64Array:
    """Means over classes of the means of values [N], hits or their differences, drawn with replacement [num_draws].

    Raises:
        ValueError: there is no value.
    """
    if not len(values):
        raise ValueError("nothing to draw from: at least one value is needed")
    random = np.random.default_rng(seed)
    pairs = np.stack((labels.astype(np.float64), values.astype(np.float64)), axis=1)
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)  # by class, then value
    starts = np.flatnonzero(np.diff(kinds[:, 0], prepend=-1))  # first kind of each class
    means = []
    for size in _portions(num_draws, len(kinds)):
        drawn = random.multinomial(len(values), counts / len(values), size=size).astype(np.float64)  # [draws, kinds]
        in_class = np.add.reduceat(drawn, starts, axis=1)  # [draws, classes]
        sums = np.add.reduceat(drawn * kinds[:, 1], starts, axis=1)
        shares = np.divide(sums, in_class, out=np.zeros_like(sums), where=in_class > 0)
        means.append(shares.sum(axis=1) / (in_class > 0).sum(axis=1))
    return np.concatenate(means)


def _central(draws: Float64Array) -> Interval:
    low, high = np.quantile(draws, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(float(low), float(high))


def _portions(num_draws: int, width: int) -> Iterator[int]:
    """Numbers of draws that sum up to `num_draws` and hold at most `CELLS` numbers each."""
    most = max(1, CELLS // width)
    for start in range(0, num_draws, most):
        yield min(most, num_draws - start)
