"""Bootstrap intervals against every resample there is, and against drawing videos one by one."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest

from training.evaluation import bootstrap
from training.evaluation.bootstrap import (
    class_mean_draws,
    class_mean_interval,
    mcnemar,
    mean_draws,
    mean_interval,
    paired_bootstrap,
)


def shares_below(draws: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return (draws[:, None] <= edges + 1e-9).mean(axis=0)


def test_counts_are_distributed_as_all_resamples_are() -> None:
    values = np.array([0, 1, 1, 0.25, 1])
    exact = np.array([np.mean(chosen) for chosen in product(values, repeat=5)])
    drawn = mean_draws(values)
    edges = np.unique(exact.round(9))
    np.testing.assert_allclose(shares_below(drawn, edges), shares_below(exact, edges), atol=0.02)  # 4 standard errors
    assert set(drawn.round(9)) <= set(edges)


def test_class_means_are_distributed_as_all_resamples_are() -> None:
    hits, labels = np.array([1, 0, 1, 1, 0]), np.array([0, 0, 0, 2, 3])

    def statistic(chosen: tuple[int, ...]) -> float:
        picked = np.array(chosen)
        return float(np.mean([hits[picked][labels[picked] == k].mean() for k in np.unique(labels[picked])]))

    exact = np.array([statistic(chosen) for chosen in product(range(5), repeat=5)])
    edges = np.unique(exact.round(9))
    drawn = class_mean_draws(hits, labels)
    np.testing.assert_allclose(shares_below(drawn, edges), shares_below(exact, edges), atol=0.02)


def test_values_that_differ_are_drawn_in_portions_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    values = random.exponential(size=150)
    naive = np.array([values[random.integers(0, 150, 150)].mean() for _ in range(10_000)])
    found = mean_interval(values)
    assert found == pytest.approx(tuple(np.quantile(naive, (0.025, 0.975))), abs=0.012)
    monkeypatch.setattr(bootstrap, "CELLS", 1000)
    assert mean_interval(values) == pytest.approx(found, abs=1e-12)
    hits, labels = values < 0.7, random.integers(0, 9, 150)
    small = class_mean_interval(hits, labels)
    monkeypatch.setattr(bootstrap, "CELLS", 4_000_000)
    assert class_mean_interval(hits, labels) == pytest.approx(small, abs=1e-12)


def test_the_interval_is_that_of_paired_differences() -> None:
    random = np.random.default_rng(0)
    active = random.random(400) < 0.7
    same = paired_bootstrap(active, active)
    assert same == (0.0, (0.0, 0.0))  # the same hits on the same clips leave nothing to doubt
    better = active | (random.random(400) < 0.2)
    difference, (low, high) = paired_bootstrap(better, active)
    spread = np.std(better.astype(float) - active) / 20
    assert low == pytest.approx(difference - 1.96 * spread, abs=0.006)
    assert high == pytest.approx(difference + 1.96 * spread, abs=0.006)
    assert low > 0


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (3, 9), (60, 41), (700, 800)])
def test_the_p_value_is_the_binomial_one(gained: int, lost: int) -> None:
    first = np.array([False] * gained + [True] * lost + [True] * 7 + [False] * 3)
    second = np.array([True] * gained + [False] * lost + [True] * 7 + [False] * 3)
    n = gained + lost
    exact = min(Fraction(1), Fraction(2 * sum(comb(n, k) for k in range(min(gained, lost) + 1)), 2**n))
    assert mcnemar(second, first) == pytest.approx(float(exact), rel=1e-8)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_nothing_cannot_be_drawn_from() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        mean_interval(np.zeros(0))
    with pytest.raises(ValueError, match="nothing to draw"):
        class_mean_interval(np.zeros(0, bool), np.zeros(0, np.int64))


def test_intervals_are_those_of_scipy() -> None:
    """Two runs of 10,000 draws: a quantile at 2.5 % of a mean of spread s strays by about 0.03 s, both by 0.04 s."""
    from scipy import stats

    values = np.random.default_rng(4).uniform(size=300) < 0.7
    theirs = stats.bootstrap(
        (values.astype(np.float64),), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    found = mean_interval(values)
    spread = float(values.std() / np.sqrt(300))
    assert found.low == pytest.approx(theirs.low, abs=0.2 * spread)
    assert found.high == pytest.approx(theirs.high, abs=0.2 * spread)
