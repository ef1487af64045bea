"""The server's figures against scipy and scikit-learn, which it does not depend on."""

import numpy as np
import pytest

from serve.calibration_statistics import auroc, beta_interval, calibration_error, fpr_at_tpr, reliability_bins
from serve.vocabularies.threshold_fit import _fit_platt

stats = pytest.importorskip("scipy.stats")
metrics = pytest.importorskip("sklearn.metrics")
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_and_false_positives_are_sklearn_s(ties: bool) -> None:
    known, unknown = RANDOM.normal(1, 1, 400), RANDOM.normal(0, 1, 300)
    if ties:
        known, unknown = known.round(0), unknown.round(0)
    truth, values = np.repeat([1, 0], [400, 300]), np.concatenate((known, unknown))
    assert auroc(known, unknown) == pytest.approx(metrics.roc_auc_score(truth, values), abs=1e-12)
    false, true, _ = metrics.roc_curve(truth, values, drop_intermediate=False)
    for rate in (0.5, 0.95, 1.0):
        assert fpr_at_tpr(known, unknown, tpr=rate) == pytest.approx(false[true >= rate - 1e-12].min(), abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 400), (20, 381), (400, 1), (3000, 2000)])
def test_beta_intervals_are_scipy_s(a: int, b: int) -> None:
    """60 halvings leave 2**-60; the tail is a sum of as many terms as there are counts, each good to 1e-13 or so."""
    assert beta_interval(a, b) == pytest.approx(stats.beta.ppf((0.025, 0.975), a, b), rel=1e-8)


def test_reliability_bins_are_sklearn_s() -> None:
    from sklearn.calibration import calibration_curve

    confidences = RANDOM.uniform(0.0, 1.0, 2000)
    hits = RANDOM.uniform(0, 1, 2000) < confidences**2
    accuracies, means = calibration_curve(hits, confidences, n_bins=15)
    found = reliability_bins(confidences, hits)
    assert [item.accuracy for item in found] == pytest.approx(accuracies, abs=1e-12)
    assert [item.confidence for item in found] == pytest.approx(means, abs=1e-12)
    counts = np.histogram(confidences, bins=15, range=(0, 1))[0]
    expected = float((counts * np.abs(accuracies - means)).sum() / 2000)
    assert calibration_error(found) == pytest.approx(expected, abs=1e-12)
    assert calibration_error(()) is None


@pytest.mark.parametrize("size", [1, 2])
def test_platt_scaling_is_logistic_regression_with_platt_s_targets(size: int) -> None:
    """Both targets of a pair as two weighted samples of sklearn's; C = 1e6 is the same tiny ridge.

    A clip of a group of `size` clips has the weight 1/size.
    """
    from sklearn.linear_model import LogisticRegression

    labels = np.concatenate((RANDOM.integers(0, 4, 150), np.full(50, -1)))
    logits = RANDOM.normal(0, 2, (200, 4)).astype(np.float32)
    logits[np.flatnonzero(labels >= 0), labels[labels >= 0]] += 3
    shows = labels[:, None] == np.arange(4)
    positives, negatives = shows.sum() / size, (~shows).sum() / size
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    target = np.where(shows, high, low).ravel()
    x = logits.astype(np.float64).reshape(-1, 1)
    spread = x.std()
    fitted = LogisticRegression(C=1e6, tol=1e-10, max_iter=10_000).fit(
        np.concatenate((x, x)) / spread,
        np.repeat([1, 0], len(x)),
        sample_weight=np.concatenate((target, 1 - target)) / size,
    )
    slope, intercept = float(fitted.coef_[0, 0]) / spread, float(fitted.intercept_[0])
    found = _fit_platt(logits, labels, np.arange(len(labels)) // size)
    assert 1 / found.temperature == pytest.approx(slope, rel=1e-4)
    assert -found.bias / found.temperature == pytest.approx(intercept, rel=1e-4)
