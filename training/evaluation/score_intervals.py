"""Score intervals of accuracies, valid for small samples and near 0 and 1: Wilson's for one, Tango's for a difference.

A bootstrap interval of hits has width 0 if every clip is a hit, and its coverage is insufficient near 1. A score
interval contains the true values that a score test does not reject.

For dependent clips, the sample size is replaced by `effective_sample_size`, derived from the variance between groups.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from serve.arrays import Float64Array, Int64Array

CONFIDENCE_LEVEL = 0.95  # level of the intervals
Z = float(norm.ppf((1 + CONFIDENCE_LEVEL) / 2))
SEED, NUM_SIMULATIONS = 0, 20_000
PRIOR_CLIPS = 5.0  # chosen by simulation: mean coverage of 0.95 even if most classes have two clips

Values = NDArray[np.bool_] | NDArray[np.integer] | NDArray[np.floating]


class Interval(NamedTuple):
    """Two-sided 95 % interval."""

    low: float
    high: float


def wilson_interval(proportion: float, count: float) -> Interval:
    """Return the interval of a proportion of `count` independent trials, not necessarily an integer (Wilson 1927).

    >>> tuple(round(value, 4) for value in wilson_interval(1.0, 40))
    (0.9124, 1.0)

    Raises:
        ValueError: `count` is 0.
    """
    if not count > 0:
        raise ValueError(f"the number of trials must be positive, got {count}")
    square = Z * Z / count
    centre = (proportion + square / 2) / (1 + square)
    half_width = Z * math.sqrt(proportion * (1 - proportion) / count + square / (4 * count)) / (1 + square)
    return Interval(max(0.0, centre - half_width), min(1.0, centre + half_width))


def accuracy_interval(hits: NDArray[np.bool_], groups: Int64Array | None = None) -> Interval:
    """Return the interval of the accuracy of hits [N] of clips in groups [N]; by default clips are independent.

    Raises:
        ValueError: there are no clips.
    """
    if not len(hits):
        raise ValueError("cannot compute an interval without clips")
    return wilson_interval(float(hits.mean()), effective_sample_size(hits, groups))


def accuracy_figures(hits: Mapping[str, Sequence[bool] | NDArray[np.bool_]]) -> dict[str, Any]:
    """Return the rounded accuracy of each series of independent hits, with their counts and intervals.

    >>> accuracy_figures({"seen": [True, True, True, False]})
    {'seen': 0.75, 'counts': {'seen': 4}, 'intervals': {'seen': [0.3006, 0.9544]}}
    """
    values = {name: np.array(each, np.bool_) for name, each in hits.items()}
    return {
        **{name: round(float(each.mean()), 4) for name, each in values.items()},
        "counts": {name: len(each) for name, each in values.items()},
        "intervals": {name: [round(edge, 4) for edge in accuracy_interval(each)] for name, each in values.items()},
    }


def class_accuracy_interval(hits: NDArray[np.bool_], labels: Int64Array, groups: Int64Array | None = None) -> Interval:
    """Return the interval of the mean accuracy over classes, from hits [N] and labels [N].

    It is Wilson's interval for the number of trials that has the estimated variance.

    Raises:
        ValueError: there are no clips.
    """
    stratum, counts = _strata(labels)
    proportions = np.bincount(stratum, weights=hits.astype(np.float64)) / counts
    mean = float(proportions.mean())
    variances = _class_variances(proportions * (1 - proportions), counts, at_mean=mean * (1 - mean))
    variance = float((variances / counts).sum()) / len(counts) ** 2
    count = mean * (1 - mean) / variance if variance > 0 else len(counts) ** 2 / float((1 / counts).sum())
    return wilson_interval(mean, count * effective_sample_size(hits, groups) / len(hits))


def class_accuracy_difference_interval(
    candidate: NDArray[np.bool_], active: NDArray[np.bool_], labels: Int64Array, groups: Int64Array | None = None
) -> tuple[float, Interval]:
    """Return the difference of two models' mean accuracies over classes, and its interval; hits [N], labels [N].

    It is Tango's interval for the number of pairs that has the estimated variance, with the observed proportion of
    discordant pairs.

    Raises:
        ValueError: there are no clips.
    """
    stratum, counts = _strata(labels)
    gained = np.bincount(stratum, weights=candidate & ~active) / counts
    lost = np.bincount(stratum, weights=active & ~candidate) / counts
    difference, discordant = float((gained - lost).mean()), float((gained + lost).mean())
    min_count = len(counts) ** 2 / float((1 / counts).sum())
    at_mean = discordant - difference**2
    variances = _class_variances(gained + lost - (gained - lost) ** 2, counts, at_mean=at_mean)
    variance = float((variances / counts).sum()) / len(counts) ** 2
    count = at_mean / variance if variance > 0 else min_count
    pairs = candidate.astype(np.int64) - active.astype(np.int64)
    count *= effective_sample_size(pairs, groups) / len(pairs)
    proportions = (discordant + difference) / 2, (discordant - difference) / 2
    return difference, tango_interval(proportions[0] * count, proportions[1] * count, count)


def _strata(labels: Int64Array) -> tuple[Int64Array, Float64Array]:
    """Return (stratum index of each clip [N], number of clips per stratum [K]).

    Raises:
        ValueError: there are no clips.
    """
    if not len(labels):
        raise ValueError("cannot compute an interval without clips")
    _, stratum = np.unique(labels, return_inverse=True)
    return stratum, np.bincount(stratum).astype(np.float64)


def _class_variances(variances: Float64Array, counts: Float64Array, *, at_mean: float) -> Float64Array:
    """Return the shrunken variance within each class [K]; `variances` are not corrected for the sample size.

    The estimate of a class is shrunk towards the pooled variance of all classes, which is shrunk towards the variance
    at the mean accuracy, each with the weight of `PRIOR_CLIPS` clips.
    """
    degrees_of_freedom = counts - 1
    unbiased = np.where(degrees_of_freedom > 0, variances * counts / np.maximum(degrees_of_freedom, 1), 0.0)
    pooled = ((unbiased * degrees_of_freedom).sum() + PRIOR_CLIPS * at_mean) / (degrees_of_freedom.sum() + PRIOR_CLIPS)
    shrunken: Float64Array = (unbiased * degrees_of_freedom + PRIOR_CLIPS * pooled) / (degrees_of_freedom + PRIOR_CLIPS)
    return shrunken


def effective_sample_size(values: Values, groups: Int64Array | None = None) -> float:
    """Return the number of independent clips whose mean has the same variance as the mean of values [N] in groups [N].

    It is at most N and at least N^2 / sum of squared group sizes, its value if groups are constant (Kish 1965).

    >>> effective_sample_size(np.ones(25, np.bool_), np.zeros(25, np.int64))
    1.0
    """
    if groups is None:
        return float(len(values))
    numbers = values.astype(np.float64)
    _, group_index = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group_index)
    min_size = len(values) ** 2 / float((sizes.astype(np.float64) ** 2).sum())
    variance = float(numbers.var())
    if len(sizes) < 2 or variance == 0:
        return min_size
    sums = np.bincount(group_index, weights=numbers - numbers.mean())
    variance_of_mean = len(sizes) / (len(sizes) - 1) * float((sums**2).sum()) / len(values) ** 2
    if variance_of_mean == 0:
        return float(len(values))
    return min(float(len(values)), max(min_size, variance / variance_of_mean))


def tango_statistic(gained: Values | float, lost: Values | float, count: float, difference: float) -> Float64Array:
    """Return Tango's statistic: the observed minus a hypothetical difference, in standard deviations.

    Of `count` pairs, `gained` are correct only for the candidate and `lost` only for the active model. The variance is
    that of the maximum likelihood estimate under the hypothetical difference (Tango 1998, Statistics in Medicine 17).
    """
    b, c = np.asarray(gained, np.float64), np.asarray(lost, np.float64)
    linear = -b - c + (2 * count - b + c) * difference
    constant = -c * difference * (1 - difference)
    lost_proportion = (np.sqrt(np.maximum(linear**2 - 8 * count * constant, 0)) - linear) / (4 * count)
    variance = count * np.maximum(2 * lost_proportion + difference * (1 - difference), 0)
    excess = b - c - count * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic: Float64Array = np.where(variance > 0, excess / np.sqrt(variance), np.sign(excess) * np.inf)
    return np.where((excess == 0) & (variance <= 0), 0.0, statistic)


def tango_interval(gained: float, lost: float, count: float) -> Interval:
    """Return Tango's interval of the difference of two proportions over the same `count` clips.

    >>> tuple(round(value, 4) for value in tango_interval(0, 0, 40))
    (-0.0876, 0.0876)
    """
    observed = (gained - lost) / count

    def bound(outside: float) -> float:
        inside = observed
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(float(tango_statistic(gained, lost, count, middle))) <= Z:
                inside = middle
            else:
                outside = middle
        return inside

    return Interval(bound(-1.0), bound(1.0))


def accuracy_difference_interval(
    candidate: NDArray[np.bool_], active: NDArray[np.bool_], groups: Int64Array | None = None
) -> tuple[float, Interval]:
    """Return the difference of two models' accuracies on the same clips, and its interval; hits [N].

    Raises:
        ValueError: there are no clips.
    """
    if not len(candidate):
        raise ValueError("cannot compute an interval without clips")
    pairs = candidate.astype(np.int64) - active.astype(np.int64)
    weight = effective_sample_size(pairs, groups) / len(pairs)
    gained, lost = int((pairs > 0).sum()), int((pairs < 0).sum())
    return float(pairs.mean()), tango_interval(gained * weight, lost * weight, len(pairs) * weight)


def min_independent_pairs(margin: float) -> int:
    """Return the smallest number of independent clips that can show non-inferiority by a margin.

    With this number, the lower end of the interval is above -margin if both models agree on all clips, and the
    probability that a candidate that is worse by the margin agrees on all clips is at most 5 %.

    >>> min_independent_pairs(0.01), min_independent_pairs(0.05), min_independent_pairs(0.5)
    (381, 73, 5)

    Raises:
        ValueError: the margin is not in (0, 1].
    """
    if not 0 < margin <= 1:
        raise ValueError(f"the margin must be greater than 0 and at most 1, got {margin}")
    if margin == 1:
        return 1
    return math.ceil(max(Z * Z * (1 - margin) / margin, math.log(1 - CONFIDENCE_LEVEL) / math.log1p(-margin)))


def non_inferiority_power(count: float, discordant: float, margin: float, *, difference: float = 0.0) -> float:
    """Return the probability that the lower end of the interval is above -margin, by simulation.

    There are `count` independent clips, of which the fraction `discordant` is correct for one model only, and the true
    difference of the accuracies is `difference`. The seed is fixed; the standard error is at most 0.004.

    Raises:
        ValueError: `difference` is impossible for this `discordant`.
    """
    gain, loss = (discordant + difference) / 2, (discordant - difference) / 2
    if min(gain, loss) < 0 or discordant > 1:
        raise ValueError(f"a difference of {difference} is impossible if models differ on a fraction of {discordant}")
    num_clips = max(1, round(count))
    counts = np.random.default_rng(SEED).multinomial(num_clips, (gain, loss, 1 - gain - loss), size=NUM_SIMULATIONS)
    return float((tango_statistic(counts[:, 0], counts[:, 1], num_clips, -margin) >= Z).mean())
