"""Calibration and detection metrics in NumPy. Serving does not depend on SciPy; tests compare the results with it.

N is the number of clips. The confidence of a clip is its best score, and a prediction is correct if the best label is
the true one. Known clips (positives) show a label of the vocabulary; unknown clips (negatives) show none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float64Array

NUM_BINS = 15  # equal-width bins of the reliability diagram and of the expected calibration error
CONFIDENCE_LEVEL = 0.95  # of the intervals


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Clips whose confidence lies in one bin."""

    confidence: float  # mean confidence
    accuracy: float  # fraction of correct predictions
    count: int


def reliability_bins(
    confidences: NDArray[np.floating], is_correct: NDArray[np.bool_], *, num_bins: int = NUM_BINS
) -> tuple[ReliabilityBin, ...]:
    """Group clips by confidence [N] into bins of equal width from 0 to 1; empty bins are omitted."""
    bin_indices = np.minimum((confidences * num_bins).astype(np.int64), num_bins - 1)  # [N]
    return tuple(
        ReliabilityBin(
            confidence=float(confidences[bin_indices == index].mean(dtype=np.float64)),
            accuracy=float(is_correct[bin_indices == index].mean()),
            count=int((bin_indices == index).sum()),
        )
        for index in np.unique(bin_indices)
    )


def calibration_error(bins: Sequence[ReliabilityBin]) -> float | None:
    """Return the expected calibration error: |accuracy - confidence|, averaged over clips; None if there are no clips.

    Source: arXiv:1706.04599, equation 3.
    """
    total = sum(item.count for item in bins)
    return sum(item.count * abs(item.accuracy - item.confidence) for item in bins) / total if total else None


def auroc(known: Float64Array, unknown: Float64Array) -> float:
    """Return the probability that a known clip has a higher value than an unknown one; equal values count half."""
    lower = np.searchsorted(np.sort(unknown), known, side="left")
    equal_or_lower = np.searchsorted(np.sort(unknown), known, side="right")
    return float((lower + equal_or_lower).mean() / (2 * len(unknown)))


def fpr_at_tpr(known: Float64Array, unknown: Float64Array, *, tpr: float) -> float:
    """Return the false positive rate at the highest threshold whose true positive rate is at least `tpr`.

    That is the fraction of unknown clips accepted at the threshold that accepts a fraction `tpr` of the known clips.
    """
    threshold = np.sort(known)[::-1][math.ceil(tpr * len(known)) - 1]
    return float((unknown >= threshold).mean())


def beta_interval(a: int, b: int) -> tuple[float, float]:
    """Return the central 95 % interval of a beta distribution with integer parameters."""
    tail = (1 - CONFIDENCE_LEVEL) / 2
    return _beta_quantile(a, b, tail), _beta_quantile(a, b, 1 - tail)


def _beta_quantile(a: int, b: int, probability: float) -> float:
    """Return x such that P(Beta(a, b) <= x) = P(Binomial(a + b - 1, x) >= a) = probability, by bisection."""
    n = a + b - 1
    counts = np.arange(a, n + 1)
    log_binomials = np.array([math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in counts])
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        below = float(np.exp(log_binomials + counts * math.log(x) + (n - counts) * math.log1p(-x)).sum())
        low, high = (x, high) if below < probability else (low, x)
    return (low + high) / 2
