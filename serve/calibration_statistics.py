"""Figures of calibration and separation in NumPy, since serving has no scipy; tests compare both.

N is the number of clips; the confidence of a clip is its best score; it is a hit if its best label is the right one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float64Array

BINS = 15  # of equal width, of the reliability diagram and of the expected calibration error
CONFIDENCE = 0.95  # of intervals


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Clips whose best score lies in a range."""

    confidence: float  # mean of the best score
    accuracy: float  # share of hits
    count: int


def reliability(confidences: NDArray[np.floating], hits: NDArray[np.bool_], *, bins: int = BINS) -> tuple[Bin, ...]:
    """Group clips by confidence [N] into bins of equal width from 0 to 1; empty bins are omitted."""
    place = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    return tuple(
        Bin(
            confidence=float(confidences[place == number].mean(dtype=np.float64)),
            accuracy=float(hits[place == number].mean()),
            count=int((place == number).sum()),
        )
        for number in np.unique(place)
    )


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Return the expected calibration error: the difference of accuracy and confidence, averaged over clips.

    None if there are no clips. Source: arXiv:1706.04599, equation 3.
    """
    total = sum(item.count for item in bins)
    return sum(item.count * abs(item.accuracy - item.confidence) for item in bins) / total if total else None


def auroc(known: Float64Array, unknown: Float64Array) -> float:
    """Return the probability that a known clip has a higher value than an unknown one; equal values count half."""
    lower = np.searchsorted(np.sort(unknown), known, side="left")
    equal_or_lower = np.searchsorted(np.sort(unknown), known, side="right")
    return float((lower + equal_or_lower).mean() / (2 * len(unknown)))


def fpr_at_tpr(known: Float64Array, unknown: Float64Array, *, tpr: float) -> float:
    """Return the share of unknown clips at or above the highest threshold that accepts a share `tpr` of known ones."""
    threshold = np.sort(known)[::-1][math.ceil(tpr * len(known)) - 1]
    return float((unknown >= threshold).mean())


def beta_interval(a: int, b: int) -> tuple[float, float]:
    """Return the central 95 % interval of a beta distribution with integer parameters, by its binomial tail."""
    tail = (1 - CONFIDENCE) / 2
    return _beta_quantile(a, b, tail), _beta_quantile(a, b, 1 - tail)


def _beta_quantile(a: int, b: int, share: float) -> float:
    """x with P(Beta(a, b) <= x) = P(Binomial(a + b - 1, x) >= a) = share."""
    n = a + b - 1
    counts = np.arange(a, n + 1)
    log_ways = np.array([math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in counts])
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        below = float(np.exp(log_ways + counts * math.log(x) + (n - counts) * math.log1p(-x)).sum())
        low, high = (x, high) if below < share else (low, x)
    return (low + high) / 2
