"""How far means of any values would move with other videos: bootstrap intervals. Shares have `score_intervals`.

As many videos, or groups of videos that depend on each other, are drawn with replacement as there are. How often each
is drawn follows a multinomial distribution, so counts are drawn instead of videos, in portions, so that memory stays
small whatever the number of videos. The seed is fixed: the same values give the same interval.
`scipy.stats.bootstrap` agrees (a test compares them), but knows no groups.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from serve.arrays import Float64Array, Int64Array
from training.evaluation.score_intervals import CONFIDENCE, Interval

DRAWS, SEED = 10_000, 0
CELLS = 4_000_000  # numbers held at a time

Values = NDArray[np.bool_] | NDArray[np.integer] | NDArray[np.floating]


def mean_interval(values: Values, groups: Int64Array | None = None, *, num_draws: int = DRAWS) -> Interval:
    """Of the mean of values [N] in groups [N]; without groups each value is its own.

    Raises:
        ValueError: there is no value.
    """
    return _central(mean_draws(values, groups, num_draws=num_draws))


def mcnemar(candidate: NDArray[np.bool_], active: NDArray[np.bool_]) -> float:
    """Exact two-sided p that two models hit equally often, of the videos that one of them alone got right.

    Source: McNemar 1947, with the binomial distribution instead of its approximation.
    """
    gained, lost = int((candidate & ~active).sum()), int((active & ~candidate).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def mean_draws(
    values: Values, groups: Int64Array | None = None, *, num_draws: int = DRAWS, seed: int = SEED
) -> Float64Array:
    """Means of values [N], whose groups [N] are drawn with replacement [num_draws].

    Raises:
        ValueError: there is no value.
    """
    if not len(values):
        raise ValueError("nothing to draw from: at least one value is needed")
    place = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(place, weights=values.astype(np.float64)), np.bincount(place).astype(np.float64)
    random = np.random.default_rng(seed)
    means = []
    for portion in _portions(num_draws, len(sums)):
        drawn = random.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=portion)  # [draws, groups]
        means.append((drawn @ sums) / (drawn @ sizes))
    return np.concatenate(means)


def _central(draws: Float64Array) -> Interval:
    low, high = np.quantile(draws, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Interval(float(low), float(high))


def _portions(num_draws: int, width: int) -> Iterator[int]:
    """Numbers of draws that sum up to `num_draws` and hold at most `CELLS` numbers each."""
    most = max(1, CELLS // width)
    for start in range(0, num_draws, most):
        yield min(most, num_draws - start)
