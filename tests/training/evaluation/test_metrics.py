"""Figures against cases counted by hand, and against what serving computes from the same scores."""

import math

import numpy as np
import pytest

from serve.calibration_statistics import reliability_bins
from serve.contract import ScoringContract
from serve.scoring import IDENTITY_SCALING, LogitScaling, Scores, reduce_logits
from serve.vocabularies.threshold_fit import fit
from training.evaluation.metrics import (
    class_accuracies,
    confusion_counts,
    expected_calibration_error,
    label_ranks,
    mean_class_accuracy,
    negative_log_likelihoods,
    top_k_curve,
    top_k_hits,
)

PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.25, 0.5, 0.25]], np.float32)
LABELS = np.array([0, 1, 1, 2])


def test_ranks_count_what_is_better_and_what_is_equal_but_earlier() -> None:
    assert label_ranks(PROBABILITIES, LABELS).tolist() == [0, 1, 1, 2]
    assert top_k_hits(PROBABILITIES, LABELS, 1).tolist() == [True, False, False, False]
    assert top_k_hits(PROBABILITIES, LABELS, 2).tolist() == [True, True, True, False]
    assert top_k_hits(PROBABILITIES, LABELS, 5).all()
    assert top_k_curve(label_ranks(PROBABILITIES, LABELS), 3).tolist() == [0.25, 0.75, 1.0]


def test_each_class_counts_the_same_whatever_its_videos() -> None:
    hits, labels = np.array([True, True, True, False, False]), np.array([0, 0, 0, 0, 2])
    found = class_accuracies(hits, labels, 4)
    assert found[0] == 0.75 and found[2] == 0 and np.isnan(found[[1, 3]]).all()
    assert mean_class_accuracy(hits, labels) == pytest.approx(0.375)
    with pytest.raises(ValueError, match="without videos"):
        mean_class_accuracy(hits[:0], labels[:0])


def test_confusions_stand_in_the_row_of_what_is_shown() -> None:
    found = confusion_counts(np.array([0, 0, 1, 2]), np.array([0, 2, 2, 2]), 3)
    assert found.tolist() == [[1, 0, 1], [0, 0, 1], [0, 0, 1]]


def test_the_calibration_error_is_the_weighted_distance_of_the_bins() -> None:
    confidences = np.array([0.2, 0.3, 0.9, 1.0, 0.8])
    hits = np.array([False, True, True, True, False])
    found = reliability_bins(confidences, hits, num_bins=2)
    assert [(item.count, item.accuracy) for item in found] == [(2, 0.5), (3, pytest.approx(2 / 3))]
    assert [item.confidence for item in found] == [pytest.approx(0.25), pytest.approx(0.9)]
    expected = (2 * abs(0.5 - 0.25) + 3 * abs(2 / 3 - 0.9)) / 5
    assert expected_calibration_error(confidences, hits, num_bins=2) == pytest.approx(expected)


def test_the_calibration_error_is_the_one_serving_reports() -> None:
    random = np.random.default_rng(0)
    contract = ScoringContract(logit_scale=1.0, ensembling="mean_probability", view_rule="mean_probability")
    logits = (3 * random.normal(size=(200, 6))).astype(np.float32)
    labels = np.where(np.arange(200) % 4 == 0, -1, logits.argmax(axis=1))
    labels[1::3] = random.integers(0, 6, len(labels[1::3]))

    def score(clip: int, scale: LogitScaling) -> Scores:
        return reduce_logits(logits[clip][None, None], contract, function="softmax", scale=scale)

    served = fit(score, labels.tolist(), function="softmax", false_accept_rate=0.2)
    known = np.flatnonzero(labels >= 0)
    scored = np.stack([score(int(clip), IDENTITY_SCALING).scores for clip in known])
    ours = expected_calibration_error(scored.max(axis=1), top_k_hits(scored, labels[known], 1))
    assert ours == pytest.approx(served.calibration_error_before, abs=1e-9)


def test_a_probability_of_zero_costs_much_and_not_everything() -> None:
    found = negative_log_likelihoods(np.array([1.0, 0.5, 0.0], np.float32))
    assert found[:2].tolist() == [0, pytest.approx(math.log(2))]
    assert 80 < found[2] < 100
