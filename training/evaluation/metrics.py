"""Metrics of a classifier as functions of arrays.

Axes: N videos, K classes. The rank of a label is its position in descending order of probability, from 0; rank 0 is a
hit, a rank below k a top-k hit.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from serve.arrays import Float64Array, Int64Array
from serve.calibration_statistics import BINS, calibration_error, reliability

BoolArray = NDArray[np.bool_]
Reals = NDArray[np.floating]

LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)  # lower bound for probabilities that are 0 in float32


def label_ranks(probabilities: Reals, labels: Int64Array) -> Int64Array:
    """Return the rank of each label [N] in probabilities [N, K]; of equal ones, the first class ranks higher."""
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    is_before = np.arange(probabilities.shape[1]) < labels[:, None]
    ranks: Int64Array = ((probabilities > own) | ((probabilities == own) & is_before)).sum(axis=1, dtype=np.int64)
    return ranks


def top_k_hits(probabilities: Reals, labels: Int64Array, k: int) -> BoolArray:
    """Return whether each label [N] is among the k best of probabilities [N, K]; always for k >= K."""
    hits: BoolArray = label_ranks(probabilities, labels) < k
    return hits


def class_accuracies(hits: BoolArray, labels: Int64Array, num_classes: int) -> Float64Array:
    """Return the accuracy of each class [K] from hits [N]; NaN for classes without videos."""
    counts = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels, weights=hits, minlength=num_classes)
    shares: Float64Array = np.divide(right, counts, out=np.full(num_classes, np.nan), where=counts > 0)
    return shares


def mean_class_accuracy(hits: BoolArray, labels: Int64Array) -> float:
    """Return the unweighted mean accuracy of the classes with videos; hits [N], labels [N].

    Raises:
        ValueError: there are no videos.
    """
    if not len(labels):
        raise ValueError("at least one video is needed")
    return float(np.nanmean(class_accuracies(hits, labels, int(labels.max()) + 1)))


def confusion(labels: Int64Array, predictions: Int64Array, num_classes: int) -> Int64Array:
    """Return the number of videos of class i predicted as class j [K, K]."""
    found: Int64Array = confusion_matrix(labels, predictions, labels=np.arange(num_classes)).astype(np.int64)
    return found


def top_k_curve(ranks: Int64Array, most: int) -> Float64Array:
    """Return the top-k accuracy for k = 1 to `most` [most]."""
    counts = np.bincount(np.minimum(ranks, most), minlength=most + 1)[:most]
    return np.cumsum(counts) / max(len(ranks), 1)


def expected_calibration_error(confidences: Reals, hits: BoolArray, *, bins: int = BINS) -> float:
    """Return the expected calibration error of confidences [N] and hits [N], computed as in serving.

    Raises:
        ValueError: there are no videos.
    """
    found = calibration_error(reliability(confidences, hits, bins=bins))
    if found is None:
        raise ValueError("at least one video is needed")
    return found


def negative_log_likelihoods(label_probabilities: Reals) -> Float64Array:
    """Return -log of the probability of each label [N]; zeros count as the smallest float32, to stay finite."""
    return -np.log(np.maximum(label_probabilities.astype(np.float64), LEAST_PROBABILITY))
