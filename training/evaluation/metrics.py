"""Classification metrics as functions of arrays.

Axes: N videos, K classes. The rank of a label is its 0-based position in descending order of probability. A prediction
is correct (a hit) if the rank is 0, and a top-k hit if the rank is less than k.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from serve.arrays import Float64Array, Int64Array
from serve.calibration_statistics import NUM_BINS, calibration_error, reliability_bins

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.floating]

MIN_PROBABILITY = float(np.finfo(np.float32).tiny)  # lower bound for probabilities that are 0 in float32


def label_ranks(probabilities: FloatArray, labels: Int64Array) -> Int64Array:
    """Return the rank of each label [N] in probabilities [N, K]; ties are ordered by class index."""
    label_probabilities = np.take_along_axis(probabilities, labels[:, None], axis=1)
    is_before = np.arange(probabilities.shape[1]) < labels[:, None]
    is_better = (probabilities > label_probabilities) | ((probabilities == label_probabilities) & is_before)
    ranks: Int64Array = is_better.sum(axis=1, dtype=np.int64)
    return ranks


def top_k_hits(probabilities: FloatArray, labels: Int64Array, k: int) -> BoolArray:
    """Return whether each label [N] is among the k most probable classes [N, K]; always true for k >= K."""
    hits: BoolArray = label_ranks(probabilities, labels) < k
    return hits


def class_accuracies(hits: BoolArray, labels: Int64Array, num_classes: int) -> Float64Array:
    """Return the accuracy of each class [K] from hits [N]; NaN for classes without videos."""
    counts = np.bincount(labels, minlength=num_classes)
    correct = np.bincount(labels, weights=hits, minlength=num_classes)
    accuracies: Float64Array = np.divide(correct, counts, out=np.full(num_classes, np.nan), where=counts > 0)
    return accuracies


def mean_class_accuracy(hits: BoolArray, labels: Int64Array) -> float:
    """Return the unweighted mean accuracy of the classes with videos; hits [N], labels [N].

    Raises:
        ValueError: there are no videos.
    """
    if not len(labels):
        raise ValueError("cannot compute the accuracy without videos")
    return float(np.nanmean(class_accuracies(hits, labels, int(labels.max()) + 1)))


def confusion_counts(labels: Int64Array, predictions: Int64Array, num_classes: int) -> Int64Array:
    """Return the confusion matrix [K, K]: entry (i, j) counts the videos of class i that were predicted as class j."""
    counts: Int64Array = confusion_matrix(labels, predictions, labels=np.arange(num_classes)).astype(np.int64)
    return counts


def top_k_curve(ranks: Int64Array, max_k: int) -> Float64Array:
    """Return the top-k accuracy for k = 1 to `max_k` [max_k]."""
    counts = np.bincount(np.minimum(ranks, max_k), minlength=max_k + 1)[:max_k]
    return np.cumsum(counts) / max(len(ranks), 1)


def expected_calibration_error(confidences: FloatArray, hits: BoolArray, *, num_bins: int = NUM_BINS) -> float:
    """Return the expected calibration error of confidences [N] and hits [N], with the same formula as the server.

    Raises:
        ValueError: there are no videos.
    """
    error = calibration_error(reliability_bins(confidences, hits, num_bins=num_bins))
    if error is None:
        raise ValueError("cannot compute the calibration error without videos")
    return error


def negative_log_likelihoods(label_probabilities: FloatArray) -> Float64Array:
    """Return -log of the probability of each label [N]; probabilities are at least `MIN_PROBABILITY`."""
    return -np.log(np.maximum(label_probabilities.astype(np.float64), MIN_PROBABILITY))
