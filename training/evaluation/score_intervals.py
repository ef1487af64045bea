"""Intervals of shares that hold for small numbers and near 0 and 1: Wilson's of one share, Tango's of two in pairs.

A bootstrap of hits gives an interval of width 0 where every clip is a hit, and covers the truth too rarely near 1.
Score intervals ask instead which true values the observed one does not contradict.

Clips that depend on each other count less: a set of clips is taken as `effective_count` independent ones, from the
variance between groups, and where all agree as many as there are groups of equal size.
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
PRIOR_CLIPS = 5.0  # chosen by simulation: coverage of 0.95 on average, also where most classes have two clips

Values = NDArray[np.bool_] | NDArray[np.integer] | NDArray[np.floating]


class Interval(NamedTuple):
    """Two-sided 95 % interval."""

    low: float
    high: float


def wilson(share: float, count: float) -> Interval:
    """Of a share of `count` independent trials, which need not be a whole number (Wilson 1927).

    >>> tuple(round(value, 4) for value in wilson(1.0, 40))
    (0.9124, 1.0)

    Raises:
        ValueError: there is no trial.
    """
    if not count > 0:
        raise ValueError("no interval of nothing: at least one value is needed")
    square = Z * Z / count
    centre = (share + square / 2) / (1 + square)
    reach = Z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return Interval(max(0.0, centre - reach), min(1.0, centre + reach))


def share_interval(hits: NDArray[np.bool_], groups: Int64Array | None = None) -> Interval:
    """Of the share of hits [N] of clips in groups [N]; without groups every clip is independent.

    Raises:
        ValueError: there is no value.
    """
    if not len(hits):
        raise ValueError("no interval of nothing: at least one value is needed")
    return wilson(float(hits.mean()), effective_count(hits, groups))


def class_share_interval(hits: NDArray[np.bool_], labels: Int64Array, groups: Int64Array | None = None) -> Interval:
    """Of the mean over classes of the share of hits [N], classes [N] as strata.

    Wilson's interval for as many trials as would give the mean this variance.

    Raises:
        ValueError: there is no value.
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
    """Hits [N] of two models on the same clips -> difference of the means over classes, and its interval.

    Tango's interval of as many pairs as would give the difference this variance, with the observed share of pairs on
    which the models differ.

    Raises:
        ValueError: there is no value.
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
    """(stratum of each clip [N], clips of each stratum [K]).

    Raises:
        ValueError: there is no clip.
    """
    if not len(labels):
        raise ValueError("no interval of nothing: at least one value is needed")
    _, place = np.unique(labels, return_inverse=True)
    return place, np.bincount(place).astype(np.float64)


def _class_variances(own: Float64Array, counts: Float64Array, *, at_mean: float) -> Float64Array:
    """Variance of a value within each class, from that among its clips and their number.

    A class of few clips says little of its own variance, so it is drawn towards that of all classes together, and that
    towards the variance at the mean, each with the weight of `PRIOR_CLIPS` clips.
    """
    freedom = counts - 1
    unbiased = np.where(freedom > 0, own * counts / np.maximum(freedom, 1), 0.0)
    pooled = ((unbiased * freedom).sum() + PRIOR_CLIPS * at_mean) / (freedom.sum() + PRIOR_CLIPS)
    variances: Float64Array = (unbiased * freedom + PRIOR_CLIPS * pooled) / (freedom + PRIOR_CLIPS)
    return variances


def effective_count(values: Values, groups: Int64Array | None = None) -> float:
    """Number of independent clips whose mean would vary as that of values [N] in groups [N] does.

    At most N, and at least what remains if all clips of a group agree: N^2 / sum of squared sizes (Kish 1965).

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
    """Tango's statistic: how many standard deviations the observed difference lies above a supposed one.

    `gained` and `lost` count the pairs that the candidate or the other alone got right, of `count` pairs. The variance
    is that of the most likely probabilities under the supposed difference (Tango 1998, Statistics in Medicine 17).
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
    """Of the difference of two shares over the same `count` clips: the differences the score does not reject (Tango).

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
    """Hits [N] of two models on the same clips -> difference of the shares and its interval.

    Raises:
        ValueError: there is no value.
    """
    if not len(candidate):
        raise ValueError("no interval of nothing: at least one value is needed")
    pairs = candidate.astype(np.int64) - active.astype(np.int64)
    weight = effective_count(pairs, groups) / len(pairs)
    gained, lost = int((pairs > 0).sum()), int((pairs < 0).sum())
    return float(pairs.mean()), paired_interval(gained * weight, lost * weight, len(pairs) * weight)


def fewest_pairs(margin: float) -> int:
    """Independent clips from which two models that agree on every clip are known to differ by no more than a margin.

    The interval has to end above -margin, and a candidate that is worse by the margin may agree on all clips in at most
    5 % of lists.

    >>> fewest_pairs(0.01), fewest_pairs(0.05), fewest_pairs(0.5)
    (381, 73, 5)
    """
    if not 0 < margin <= 1:
        raise ValueError(f"a margin above 0 to 1 is needed, found {margin}")
    if margin == 1:
        return 1
    return math.ceil(max(Z * Z * (1 - margin) / margin, math.log(1 - CONFIDENCE) / math.log1p(-margin)))


def non_inferiority_power(count: float, discordant: float, margin: float, *, difference: float = 0.0) -> float:
    """Chance that the lower end of the interval stays above -margin.

    `count` independent clips, a share `discordant` of which one model alone gets right, and a true difference. Drawn
    with a fixed seed, so its standard error is at most 0.004.
    """
    gain, loss = (discordant + difference) / 2, (discordant - difference) / 2
    if min(gain, loss) < 0 or discordant > 1:
        raise ValueError(f"a difference of {difference} is impossible where models differ on {discordant} of the clips")
    whole = max(1, round(count))
    drawn = np.random.default_rng(SEED).multinomial(whole, (gain, loss, 1 - gain - loss), size=DRAWS)
    return float((paired_score(drawn[:, 0], drawn[:, 1], whole, -margin) >= Z).mean())
