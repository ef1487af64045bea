"""Score intervals: the definitions solved another way, and how often they cover the truth."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from training.evaluation.score_intervals import (
    Z,
    accuracy_difference_interval,
    accuracy_interval,
    class_accuracy_interval,
    effective_sample_size,
    min_independent_pairs,
    non_inferiority_power,
    tango_interval,
    tango_statistic,
    wilson_interval,
)


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 40), (40, 40), (39, 40), (7, 10), (500, 1000)])
def test_wilson_is_that_of_scipy(hits: int, count: int) -> None:
    theirs = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits / count, count) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("count", [10, 40, 200, 1000])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_shares_are_covered(share: float, count: int) -> None:
    """The exact coverage, by the binomial distribution; below ten expected misses it jumps between counts."""
    hits = np.arange(count + 1)
    edges = [wilson_interval(each / count, count) for each in hits]
    is_covered = np.array([low <= share <= high for low, high in edges])
    coverage = float(stats.binom.pmf(hits, count, share)[is_covered].sum())
    assert 0.93 <= coverage <= (0.97 if count * (1 - share) >= 10 else 0.99) or count == 10
    assert coverage > 0.91


SCENARIOS = [  # classes, clips of a class on average, mean share, how unequal shares are (low: very), rare classes
    (10, 20, 0.9, 5.0, True), (50, 5, 0.7, 3.0, True), (100, 5, 0.8, 5.0, True), (20, 20, 0.95, 10.0, False),
    (100, 20, 0.6, 2.0, True), (30, 10, 0.8, 1e6, False),
]  # fmt: skip


@pytest.mark.parametrize(("classes", "per_class", "mean", "equality", "has_rare"), SCENARIOS)
def test_means_over_classes_are_covered(
    classes: int, per_class: int, mean: float, equality: float, has_rare: bool
) -> None:
    random, covered, rounds, count = np.random.default_rng(classes), 0, 1000, classes * per_class
    weights = 1 / np.arange(1, classes + 1) ** float(has_rare)
    for _ in range(rounds):
        truth = random.beta(mean * equality, (1 - mean) * equality, classes)
        labels = random.choice(classes, count, p=weights / weights.sum())
        low, high = class_accuracy_interval(random.random(count) < truth[labels], labels)
        covered += low <= truth[np.unique(labels)].mean() <= high
    assert 0.93 <= covered / rounds <= 0.97


def test_clips_that_depend_on_each_other_widen_the_interval() -> None:
    random, covered, independent, rounds = np.random.default_rng(0), 0, 0, 500
    for _ in range(rounds):  # 60 groups of five clips, which mostly agree
        of_group = random.random(60) < 0.8
        groups = np.repeat(np.arange(60), 5)
        hits = np.where(random.random(300) < 0.8, of_group[groups], random.random(300) < 0.8)
        for grouped in (True, False):
            low, high = accuracy_interval(hits, groups if grouped else None)
            is_covered = low <= 0.8 <= high
            covered, independent = covered + (grouped and is_covered), independent + (not grouped and is_covered)
    assert covered / rounds >= 0.92  # 0.95 less three standard errors of 500 rounds
    assert independent / rounds < 0.85, "the control: as independent clips they cover too rarely"


def test_copies_of_one_clip_count_once() -> None:
    hits = np.array([True] * 25)
    assert accuracy_interval(hits, np.zeros(25, np.int64)) == wilson_interval(1.0, 1)
    assert class_accuracy_interval(hits, np.zeros(25, np.int64), np.zeros(25, np.int64)) == wilson_interval(1.0, 1)
    assert accuracy_difference_interval(hits, hits, np.zeros(25, np.int64))[1] == tango_interval(0, 0, 1)
    mixed = np.array([True, False] * 20)
    assert effective_sample_size(mixed, np.arange(40)) == pytest.approx(40, rel=0.03)
    assert effective_sample_size(mixed, np.arange(40) % 2) == pytest.approx(2)


def supposed_variance(gained: int, lost: int, count: int, difference: float) -> float:
    """Variance of gained - lost under the likeliest probabilities of that difference, searched for."""

    def loss(lost_share: float) -> float:
        shares = (lost_share + difference, lost_share, 1 - 2 * lost_share - difference)
        return -sum(
            n * math.log(max(p, 1e-300))
            for n, p in zip((gained, lost, count - gained - lost), shares, strict=True)
            if n
        )

    low, high = max(0.0, -difference), (1 - difference) / 2
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return count * (2 * best + difference - difference**2)


@pytest.mark.parametrize(("gained", "lost", "count"), [(12, 2, 50), (3, 9, 40), (5, 0, 20), (1, 1, 4)])
@pytest.mark.parametrize("difference", [-0.4, -0.1, 0.05, 0.3])
def test_the_score_is_that_of_the_likeliest_probabilities(
    gained: int, lost: int, count: int, difference: float
) -> None:
    expected = (gained - lost - count * difference) / math.sqrt(supposed_variance(gained, lost, count, difference))
    assert float(tango_statistic(gained, lost, count, difference)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("gained", "lost", "count"), [(12, 2, 50), (0, 0, 4), (4, 0, 4), (0, 4, 4), (30, 31, 200)])
def test_the_interval_ends_where_the_score_does(gained: int, lost: int, count: int) -> None:
    low, high = tango_interval(gained, lost, count)
    assert -1 <= low <= (gained - lost) / count <= high <= 1
    for edge in (low, high):
        if abs(edge) < 1:
            assert abs(float(tango_statistic(gained, lost, count, edge))) == pytest.approx(Z, abs=1e-6)
    mirrored = tango_interval(lost, gained, count)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("count", [10, 50, 200])
@pytest.mark.parametrize("shares", [(0.1, 0.1, 0.8), (0.02, 0.08, 0.9), (0.3, 0.2, 0.5)])
def test_differences_are_covered(count: int, shares: Sequence[float]) -> None:
    """Pairs that one, the other or neither alone got right; the interval holds what the score does not reject."""
    drawn = np.random.default_rng(count).multinomial(count, shares, size=20_000)
    truth = shares[0] - shares[1]
    is_covered = np.abs(tango_statistic(drawn[:, 0], drawn[:, 1], count, truth)) <= Z
    assert is_covered.mean() >= 0.93
    if count >= 50:
        assert is_covered.mean() <= 0.97
    for gained, lost, _ in drawn[:20].tolist():
        low, high = tango_interval(gained, lost, count)
        assert (low <= truth <= high) == (abs(float(tango_statistic(gained, lost, count, truth))) <= Z)


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05, 0.1, 0.5, 1.0])
def test_the_fewest_clips_are_those_at_which_agreement_decides(margin: float) -> None:
    fewest = min_independent_pairs(margin)
    assert tango_interval(0, 0, fewest).low >= -margin
    if fewest > 1:
        assert tango_interval(0, 0, fewest - 1).low < -margin or (1 - margin) ** (fewest - 1) > 0.05
    with pytest.raises(ValueError, match="margin"):
        min_independent_pairs(0)


def test_power_grows_with_clips_and_is_small_at_the_margin() -> None:
    powers = [non_inferiority_power(count, 0.1, 0.05) for count in (50, 200, 800, 3000)]
    assert powers == sorted(powers)
    assert powers[0] < 0.2
    assert powers[-1] > 0.99
    assert all(non_inferiority_power(n, 0.1, 0.05, difference=-0.05) < 0.035 for n in (80, 200, 1000))
    with pytest.raises(ValueError, match="impossible"):
        non_inferiority_power(100, 0.05, 0.1, difference=-0.1)


def test_nothing_has_no_interval() -> None:
    empty = np.zeros(0, np.bool_)
    for interval in (accuracy_interval, lambda hits: class_accuracy_interval(hits, np.zeros(0, np.int64))):
        with pytest.raises(ValueError, match="without clips"):
            interval(empty)
    with pytest.raises(ValueError, match="without clips"):
        accuracy_difference_interval(empty, empty)
