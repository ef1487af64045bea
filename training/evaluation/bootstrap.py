"""Bootstrap intervals of means, and McNemar's test; for accuracies see `score_intervals`.

Videos, or groups of dependent videos, are resampled with replacement. Their counts follow a multinomial distribution,
so counts are sampled instead of videos, in blocks of bounded memory. The seed is fixed, so equal values give equal
intervals. A test compares it with `scipy.stats.bootstrap`, which does not support groups.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from serve.arrays import Float64Array, Int64Array
from training.evaluation.score_intervals import CONFIDENCE_LEVEL, Interval

NUM_RESAMPLES, SEED = 10_000, 0
MAX_BLOCK_SIZE = 4_000_000  # counts in memory at a time

Values = NDArray[np.bool_] | NDArray[np.integer] | NDArray[np.floating]


def mean_interval(values: Values, groups: Int64Array | None = None, *, num_resamples: int = NUM_RESAMPLES) -> Interval:
    """Return the interval of the mean of values [N] in groups [N]; by default values are independent.

    Raises:
        ValueError: there are no values.
    """
    return _central_interval(resampled_means(values, groups, num_resamples=num_resamples))


def mcnemar(candidate: NDArray[np.bool_], active: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p-value of the hypothesis that two models are equally accurate, from hits [N].

    Source: McNemar 1947, with the exact binomial distribution.
    """
    gained, lost = int((candidate & ~active).sum()), int((active & ~candidate).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def resampled_means(
    values: Values, groups: Int64Array | None = None, *, num_resamples: int = NUM_RESAMPLES, seed: int = SEED
) -> Float64Array:
    """Return the mean of values [N] for each resampling of the groups [num_resamples].

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("cannot resample without values")
    group_index = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(group_index, weights=values.astype(np.float64))
    sizes = np.bincount(group_index).astype(np.float64)
    random = np.random.default_rng(seed)
    means = []
    for block_size in _block_sizes(num_resamples, len(sums)):
        # counts [block_size, groups]
        counts = random.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=block_size)
        means.append((counts @ sums) / (counts @ sizes))
    return np.concatenate(means)


def _central_interval(means: Float64Array) -> Interval:
    low, high = np.quantile(means, ((1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2))
    return Interval(float(low), float(high))


def _block_sizes(num_resamples: int, num_groups: int) -> Iterator[int]:
    """Yield block sizes that sum to `num_resamples`, of at most `MAX_BLOCK_SIZE` counts each."""
    max_size = max(1, MAX_BLOCK_SIZE // num_groups)
    for start in range(0, num_resamples, max_size):
        yield min(max_size, num_resamples - start)
