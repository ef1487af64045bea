"""Bootstrap intervals against every resample there is, and against drawing videos one by one."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest

from training.evaluation import bootstrap
from training.evaluation.bootstrap import (
    mcnemar,
    mean_interval,
    resampled_means,
)


def shares_below(draws: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return (draws[:, None] <= edges + 1e-9).mean(axis=0)


def test_counts_are_distributed_as_all_resamples_are() -> None:
    values = np.array([0, 1, 1, 0.25, 1])
    exact = np.array([np.mean(chosen) for chosen in product(values, repeat=5)])
    drawn = resampled_means(values)
    edges = np.unique(exact.round(9))
    np.testing.assert_allclose(shares_below(drawn, edges), shares_below(exact, edges), atol=0.02)  # 4 standard errors
    assert set(drawn.round(9)) <= set(edges)


def test_groups_are_drawn_whole() -> None:
    values, groups = np.array([0, 1, 1, 0.25, 1]), np.array([4, 4, 2, 0, 2])
    exact = np.array(
        [
            np.mean(np.concatenate([values[groups == group] for group in chosen]))
            for chosen in product((0, 2, 4), repeat=3)
        ]
    )
    drawn = resampled_means(values, groups)
    edges = np.unique(exact.round(9))
    np.testing.assert_allclose(shares_below(drawn, edges), shares_below(exact, edges), atol=0.02)
    assert mean_interval(np.array([0.3, 0.3]), np.zeros(2, np.int64)) == (0.3, 0.3)


def test_values_that_differ_are_drawn_in_portions_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    values = random.exponential(size=150)
    naive = np.array([values[random.integers(0, 150, 150)].mean() for _ in range(10_000)])
    found = mean_interval(values)
    assert found == pytest.approx(tuple(np.quantile(naive, (0.025, 0.975))), abs=0.012)
    monkeypatch.setattr(bootstrap, "MAX_BLOCK_SIZE", 1000)
    assert mean_interval(values) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (3, 9), (60, 41), (700, 800)])
def test_the_p_value_is_the_binomial_one(gained: int, lost: int) -> None:
    first = np.array([False] * gained + [True] * lost + [True] * 7 + [False] * 3)
    second = np.array([True] * gained + [False] * lost + [True] * 7 + [False] * 3)
    n = gained + lost
    exact = min(Fraction(1), Fraction(2 * sum(comb(n, k) for k in range(min(gained, lost) + 1)), 2**n))
    assert mcnemar(second, first) == pytest.approx(float(exact), rel=1e-8)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_nothing_cannot_be_drawn_from() -> None:
    with pytest.raises(ValueError, match="without values"):
        mean_interval(np.zeros(0))


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
