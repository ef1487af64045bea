"""Figures of a classifier from its probabilities: plain functions on arrays, none of which knows a model.

Axes: N videos, K classes. A label's rank is its place among the classes by falling probability, 0 being the best; a
prediction is a hit when its rank is 0, a top-k hit when it is below k.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float64Array, Int64Array

BoolArray = NDArray[np.bool_]
Reals = NDArray[np.floating]

BINS = 15  # of equal width, of the reliability diagram and of the expected calibration error; serving's number too
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)  # what rounded to 0 in float32 is taken as


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Videos whose best probability lies in a range."""

    confidence: float  # mean of the best probability
    accuracy: float  # share of hits
    count: int


def label_ranks(probabilities: Reals, labels: Int64Array) -> Int64Array:
    """Rank of each video's label [N] in probabilities [N, K]; of equal ones the class that comes first is better."""
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    is_before = np.arange(probabilities.shape[1]) < labels[:, None]
    ranks: Int64Array = ((probabilities > own) | ((probabilities == own) & is_before)).sum(axis=1, dtype=np.int64)
    return ranks


def top_k_hits(probabilities: Reals, labels: Int64Array, k: int) -> BoolArray:
    """Whether each label is among the k best of probabilities [N, K] -> [N]; with k >= K it always is."""
    hits: BoolArray = label_ranks(probabilities, labels) < k
    return hits


def class_accuracies(hits: BoolArray, labels: Int64Array, num_classes: int) -> Float64Array:
    """Share of hits [N] among the videos of each class [K]; NaN where a class has none."""
    counts = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels, weights=hits, minlength=num_classes)
    shares: Float64Array = np.divide(right, counts, out=np.full(num_classes, np.nan), where=counts > 0)
    return shares


def mean_class_accuracy(hits: BoolArray, labels: Int64Array) -> float:
    """Mean of the accuracies of the classes that have videos, each class counting the same; hits [N], labels [N].

    Raises:
        ValueError: there is no video.
    """
    if not len(labels):
        raise ValueError("no video, no class: at least one is needed")
    return float(np.nanmean(class_accuracies(hits, labels, int(labels.max()) + 1)))


def confusion(labels: Int64Array, predictions: Int64Array, num_classes: int) -> Int64Array:
    """How many videos of class i were taken for class j [K, K]."""
    counts = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def top_k_curve(ranks: Int64Array, most: int) -> Float64Array:
    """Share of labels among the k best, for k = 1 to `most` [most]."""
    counts = np.bincount(np.minimum(ranks, most), minlength=most + 1)[:most]
    return np.cumsum(counts) / max(len(ranks), 1)


def reliability(confidences: Reals, hits: BoolArray, *, bins: int = BINS) -> tuple[Bin, ...]:
    """Videos by their best probability [N], in bins of equal width from 0 to 1; empty bins are left out."""
    place = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    return tuple(
        Bin(
            confidence=float(confidences[place == number].mean(dtype=np.float64)),
            accuracy=float(hits[place == number].mean()),
            count=int((place == number).sum()),
        )
        for number in np.unique(place)
    )


def expected_calibration_error(confidences: Reals, hits: BoolArray, *, bins: int = BINS) -> float:
    """Mean distance of accuracy from confidence over the bins of `reliability`, weighted by their counts.

    Raises:
        ValueError: there is no video.

    Source: arXiv:1706.04599, equation 3.
    """
    found = reliability(confidences, hits, bins=bins)
    if not found:
        raise ValueError("no video: at least one is needed")
    return sum(item.count * abs(item.accuracy - item.confidence) for item in found) / len(hits)


def negative_log_likelihoods(label_probabilities: Reals) -> Float64Array:
    """-log of the probability each video's own label got [N]; 0 counts as the smallest float32, or one miss is all."""
    return -np.log(np.maximum(label_probabilities.astype(np.float64), LEAST_PROBABILITY))
