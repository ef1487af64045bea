"""Figures of calibration and separation in NumPy alone: serving has no scipy; tests compare them with it and sklearn.

Clips are N; a confidence is the best score of a clip, a hit says that the best label is its own.
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
    """Clips by their confidence [N], in bins of equal width from 0 to 1; empty bins are left out."""
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
    """Expected calibration error: mean distance of accuracy from confidence, each clip counting the same.

    None where there is no clip. Source: arXiv:1706.04599, equation 3.
    """
    total = sum(item.count for item in bins)
    return sum(item.count * abs(item.accuracy - item.confidence) for item in bins) / total if total else None


def auroc(known: Float64Array, unknown: Float64Array) -> float:
    """Chance that a known clip has a higher value than an unknown one, equal ones counting half."""
    lower = np.searchsorted(np.sort(unknown), known, side="left")
    equal_or_lower = np.searchsorted(np.sort(unknown), known, side="right")
    return float((lower + equal_or_lower).mean() / (2 * len(unknown)))


def fpr_at_tpr(known: Float64Array, unknown: Float64Array, *, tpr: float) -> float:
    """Share of unknown clips accepted at the highest threshold that accepts a share `tpr` of the known ones."""
    threshold = np.sort(known)[::-1][math.ceil(tpr * len(known)) - 1]
    return float((unknown >= threshold).mean())


def beta_interval(a: int, b: int) -> tuple[float, float]:
    """Central 95 % interval of a beta distribution with whole parameters, by its binomial tail."""
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
