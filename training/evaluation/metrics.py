"""Figures of a classifier from its probabilities: plain functions on arrays, none of which knows a model.

Axes: N videos, K classes. A label's rank is its place among the classes by falling probability, 0 being the best; a
prediction is a hit when its rank is 0, a top-k hit when it is below k.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from serve.arrays import Float64Array, Int64Array
from serve.calibration_statistics import BINS, calibration_error, reliability

BoolArray = NDArray[np.bool_]
Reals = NDArray[np.floating]

LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)  # what rounded to 0 in float32 is taken as


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
    found: Int64Array = confusion_matrix(labels, predictions, labels=np.arange(num_classes)).astype(np.int64)
    return found


def top_k_curve(ranks: Int64Array, most: int) -> Float64Array:
    """Share of labels among the k best, for k = 1 to `most` [most]."""
    counts = np.bincount(np.minimum(ranks, most), minlength=most + 1)[:most]
    return np.cumsum(counts) / max(len(ranks), 1)


def expected_calibration_error(confidences: Reals, hits: BoolArray, *, bins: int = BINS) -> float:
    """The calibration error that serving reports of confidences [N] and hits [N].

    Raises:
        ValueError: there is no video.
    """
    found = calibration_error(reliability(confidences, hits, bins=bins))
    if found is None:
        raise ValueError("no video: at least one is needed")
    return found


def negative_log_likelihoods(label_probabilities: Reals) -> Float64Array:
    """-log of the probability each video's own label got [N]; 0 counts as the smallest float32, or one miss is all."""
    return -np.log(np.maximum(label_probabilities.astype(np.float64), LEAST_PROBABILITY))
