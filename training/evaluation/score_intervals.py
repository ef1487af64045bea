"""Score intervals of shares, valid for small samples and near 0 and 1: Wilson's for one, Tango's for two paired.

A bootstrap of hits has width 0 if every clip is a hit, and insufficient coverage near 1. A score interval has the true
values that a score test does not reject.

For dependent clips, the sample size is replaced by `effective_count`, derived from the variance between groups.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from serve.arrays import Float64Array, Int64Array

CONFIDENCE = 0.95
Z = float(norm.ppf((1 + CONFIDENCE) / 2))
SEED, DRAWS = 0, 20_000
PRIOR_CLIPS = 5.0  # chosen by simulation: mean coverage of 0.95 even if most classes have two clips

Values = NDArray[np.bool_] | NDArray[np.integer] | NDArray[np.floating]


class Interval(NamedTuple):
    """Two-sided 95 % interval."""

    low: float
    high: float


def wilson(share: float, count: float) -> Interval:
    """Return the interval of a share of `count` independent trials, not necessarily an integer (Wilson 1927).

    >>> tuple(round(value, 4) for value in wilson(1.0, 40))
    (0.9124, 1.0)

    Raises:
        ValueError: `count` is 0.
    """
    if not count > 0:
        raise ValueError("at least one value is needed")
    square = Z * Z / count
    centre = (share + square / 2) / (1 + square)
    reach = Z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return Interval(max(0.0, centre - reach), min(1.0, centre + reach))


def share_interval(hits: NDArray[np.bool_], groups: Int64Array | None = None) -> Interval:
    """Return the interval of the share of hits [N] of clips in groups [N]; by default clips are independent.

    Raises:
        ValueError: there are no values.
    """
    if not len(hits):
        raise ValueError("at least one value is needed")
    return wilson(float(hits.mean()), effective_count(hits, groups))


def class_share_interval(hits: NDArray[np.bool_], labels: Int64Array, groups: Int64Array | None = None) -> Interval:
    """Return the interval of the mean accuracy over classes, from hits [N] and labels [N].

    It is Wilson's interval for the number of trials that has the estimated variance.

    Raises:
        ValueError: there are no values.
    """
    place, counts = _strata(labels)
    shares = np.bincount(place, weights=hits.astype(np.float64)) / counts
    mean = float(shares.mean())
    variances = _class_variances(shares * (1 - shares), counts, at_mean=mean * (1 - mean))
    variance = float((variances / counts).sum()) / len(counts) ** 2
    count = mean * (1 - mean) / variance if variance > 0 else len(counts) ** 2 / float((1 / counts).sum())
    return wilson(mean, count * effective_count(hits, groups) / len(hits))


def class_difference_interval(
    candidate: NDArray[np.bool_], active: NDArray[np.bool_], labels: Int64Array, groups: Int64Array | None = None
) -> tuple[float, Interval]:
    """Return the difference of the mean accuracies over classes of two models, and its interval; hits [N].

    It is Tango's interval for the number of pairs that has the estimated variance, with the observed share of
    discordant pairs.

    Raises:
        ValueError: there are no values.
    """
    place, counts = _strata(labels)
    gained = np.bincount(place, weights=candidate & ~active) / counts
    lost = np.bincount(place, weights=active & ~candidate) / counts
    difference, discordant = float((gained - lost).mean()), float((gained + lost).mean())
    fewest = len(counts) ** 2 / float((1 / counts).sum())
    at_mean = discordant - difference**2
    variances = _class_variances(gained + lost - (gained - lost) ** 2, counts, at_mean=at_mean)
    variance = float((variances / counts).sum()) / len(counts) ** 2
    count = at_mean / variance if variance > 0 else fewest
    pairs = candidate.astype(np.int64) - active.astype(np.int64)
    count *= effective_count(pairs, groups) / len(pairs)
    shares = (discordant + difference) / 2, (discordant - difference) / 2
    return difference, paired_interval(shares[0] * count, shares[1] * count, count)


def _strata(labels: Int64Array) -> tuple[Int64Array, Float64Array]:
    """Return (stratum of each clip [N], number of clips per stratum [K]).

    Raises:
        ValueError: there are no clips.
    """
    if not len(labels):
        raise ValueError("at least one value is needed")
    _, place = np.unique(labels, return_inverse=True)
    return place, np.bincount(place).astype(np.float64)


def _class_variances(own: Float64Array, counts: Float64Array, *, at_mean: float) -> Float64Array:
    """Return the variance of a value within each class.

    The estimate of a class is shrunk towards the pooled variance of all classes, and that towards the variance at the
    mean, each with the weight of `PRIOR_CLIPS` clips.
    """
    freedom = counts - 1
    unbiased = np.where(freedom > 0, own * counts / np.maximum(freedom, 1), 0.0)
    pooled = ((unbiased * freedom).sum() + PRIOR_CLIPS * at_mean) / (freedom.sum() + PRIOR_CLIPS)
    variances: Float64Array = (unbiased * freedom + PRIOR_CLIPS * pooled) / (freedom + PRIOR_CLIPS)
    return variances


def effective_count(values: Values, groups: Int64Array | None = None) -> float:
    """Return the number of independent clips whose mean has the variance of values [N] in groups [N].

    At most N, and at least that for equal values within groups: N^2 / sum of squared sizes (Kish 1965).

    >>> effective_count(np.ones(25, np.bool_), np.zeros(25, np.int64))
    1.0
    """
    if groups is None:
        return float(len(values))
    numbers = values.astype(np.float64)
    _, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place)
    fewest = len(values) ** 2 / float((sizes.astype(np.float64) ** 2).sum())
    spread = float(numbers.var())
    if len(sizes) < 2 or spread == 0:
        return fewest
    sums = np.bincount(place, weights=numbers - numbers.mean())
    of_mean = len(sizes) / (len(sizes) - 1) * float((sums**2).sum()) / len(values) ** 2
    return float(len(values)) if of_mean == 0 else min(float(len(values)), max(fewest, spread / of_mean))


def paired_score(gained: Values | float, lost: Values | float, count: float, difference: float) -> Float64Array:
    """Return Tango's statistic: the observed minus a supposed difference, in standard deviations.

    Of `count` pairs, `gained` are correct only for the candidate and `lost` only for the other. The variance is that of
    the maximum likelihood estimate under the supposed difference (Tango 1998, Statistics in Medicine 17).
    """
    b, c = np.asarray(gained, np.float64), np.asarray(lost, np.float64)
    linear = -b - c + (2 * count - b + c) * difference
    constant = -c * difference * (1 - difference)
    lost_share = (np.sqrt(np.maximum(linear**2 - 8 * count * constant, 0)) - linear) / (4 * count)
    variance = count * np.maximum(2 * lost_share + difference * (1 - difference), 0)
    above = b - c - count * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic: Float64Array = np.where(variance > 0, above / np.sqrt(variance), np.sign(above) * np.inf)
    return np.where((above == 0) & (variance <= 0), 0.0, statistic)


def paired_interval(gained: float, lost: float, count: float) -> Interval:
    """Return Tango's interval of the difference of two shares over the same `count` clips.

    >>> tuple(round(value, 4) for value in paired_interval(0, 0, 40))
    (-0.0876, 0.0876)
    """
    observed = (gained - lost) / count

    def edge(outside: float) -> float:
        inside = observed
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(float(paired_score(gained, lost, count, middle))) <= Z:
                inside = middle
            else:
                outside = middle
        return inside

    return Interval(edge(-1.0), edge(1.0))


def paired_share_interval(
    candidate: NDArray[np.bool_], active: NDArray[np.bool_], groups: Int64Array | None = None
) -> tuple[float, Interval]:
    """Return the difference of the shares of hits [N] of two models on the same clips, and its interval.

    Raises:
        ValueError: there are no values.
    """
    if not len(candidate):
        raise ValueError("at least one value is needed")
    pairs = candidate.astype(np.int64) - active.astype(np.int64)
    weight = effective_count(pairs, groups) / len(pairs)
    gained, lost = int((pairs > 0).sum()), int((pairs < 0).sum())
    return float(pairs.mean()), paired_interval(gained * weight, lost * weight, len(pairs) * weight)


def fewest_pairs(margin: float) -> int:
    """Return how many independent clips on which two models agree show that they differ by less than a margin.

    The lower end of the interval has to be above -margin, and a candidate that is worse by the margin may agree on all
    clips in at most 5 % of lists.

    >>> fewest_pairs(0.01), fewest_pairs(0.05), fewest_pairs(0.5)
    (381, 73, 5)
    """
    if not 0 < margin <= 1:
        raise ValueError(f"a margin above 0 to 1 is needed, found {margin}")
    if margin == 1:
        return 1
    return math.ceil(max(Z * Z * (1 - margin) / margin, math.log(1 - CONFIDENCE) / math.log1p(-margin)))


def non_inferiority_power(count: float, discordant: float, margin: float, *, difference: float = 0.0) -> float:
    """Return the probability that the lower end of the interval is above -margin.

    There are `count` independent clips, with a share `discordant` that only one model gets right, and a true
    difference. The simulation has a fixed seed and a standard error of at most 0.004.
    """
    gain, loss = (discordant + difference) / 2, (discordant - difference) / 2
    if min(gain, loss) < 0 or discordant > 1:
        raise ValueError(f"a difference of {difference} is impossible where models differ on {discordant} of the clips")
    whole = max(1, round(count))
    drawn = np.random.default_rng(SEED).multinomial(whole, (gain, loss, 1 - gain - loss), size=DRAWS)
    return float((paired_score(drawn[:, 0], drawn[:, 1], whole, -margin) >= Z).mean())
