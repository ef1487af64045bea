"""Bootstrap intervals of means, and McNemar's test; for shares see `score_intervals`.

Videos, or groups of dependent videos, are resampled with replacement. Their counts follow a multinomial distribution,
so counts are sampled instead of videos, in blocks of bounded memory. The seed is fixed, so equal values give equal
intervals. A test compares it with `scipy.stats.bootstrap`, which does not support groups.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from serve.arrays import Float64Array, Int64Array
from training.evaluation.score_intervals import CONFIDENCE, Interval

DRAWS, SEED = 10_000, 0
CELLS = 4_000_000  # numbers in memory at a time

Values = NDArray[np.bool_] | NDArray[np.integer] | NDArray[np.floating]


def mean_interval(values: Values, groups: Int64Array | None = None, *, num_draws: int = DRAWS) -> Interval:
    """Return the interval of the mean of values [N] in groups [N]; by default values are independent.

    Raises:
        ValueError: there are no values.
    """
    return _central(mean_draws(values, groups, num_draws=num_draws))


def mcnemar(candidate: NDArray[np.bool_], active: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p-value that two models are equally accurate, from the discordant videos.

    Source: McNemar 1947, with the binomial distribution instead of its approximation.
    """
    gained, lost = int((candidate & ~active).sum()), int((active & ~candidate).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def mean_draws(
    values: Values, groups: Int64Array | None = None, *, num_draws: int = DRAWS, seed: int = SEED
) -> Float64Array:
    """Return means of values [N] for resampled groups [num_draws].

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("at least one value is needed")
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
    """Yield block sizes that sum up to `num_draws`, of at most `CELLS` numbers each."""
    most = max(1, CELLS // width)
    for start in range(0, num_draws, most):
        yield min(most, num_draws - start)
