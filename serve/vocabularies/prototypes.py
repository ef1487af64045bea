"""Prototypes of example clips: raise the logits of a label for videos that are similar to its examples.

The affinity is that of a cache model (Tip-Adapter, arXiv:2207.09519, section 3.1). Each label has one prototype, the
mean of its examples' features (as in prototypical networks, arXiv:1703.05175), so the number of examples of a label
does not change the size of its logit:

    affinity(c) = exp(-sharpness * (1 - c))
    logit_k = text logit_k + weight * max(0, affinity(cosine(video, prototype of k)) - affinity(floor))

`floor` is used if some classes have no examples; the phrases for "none of the labels" are such classes. It is the 90th
percentile of the examples' highest cosine with the prototype of another label. Most videos of classes without examples
are below it and keep their text logits. If every class has examples, there is no floor.

`weight` and `sharpness` minimise the mean loss of the examples; every label has the same total weight. For an example
whose label has n examples,

    loss = (n - 1) / n * loss(leave-one-out cosine) + 1 / n * loss(expected cosine)

The leave-one-out cosine compares the example with the prototype of the label's other examples. The expected cosine is
an estimate over all labels, which makes labels with one example usable and limits the effect of outliers. If there is a
floor, the loss of the example without the prototype of its label is added. Labels without examples keep their text
logits, and without examples nothing is computed.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serve import scoring
from serve.arrays import Float32Array, Float64Array, Int64Array

WEIGHTS = (0.0, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # in units of the model's logit scale
SHARPNESSES = (1.0, 2.0, 4.0, 8.0, 16.0)
PROBABILITY_EPSILON = 0.01  # added to each probability, which bounds the loss of one example
LOSS_TOLERANCE = 0.1  # nats; the lowest weight whose loss is within it of the minimum is chosen
FLOOR_QUANTILE = 0.9
PRIOR_COSINE, PRIOR_COUNT = 0.5, 2  # prior for the cosine with another label: its value and its pseudo-count
EXPECTED_COSINE_COUNT = 2  # pseudo-count of the prior for the cosine with the example's label


@dataclass(frozen=True, kw_only=True)
class PrototypeFit:
    """Fitted parameters of the affinity, and how they were chosen."""

    weight: float  # logits added for a label if the video equals its prototype and there is no floor
    sharpness: float
    floor: float | None  # cosine above which a logit is raised; None if every class has examples
    chosen_by: Literal["leave_one_out", "assumed_affinity"]
    num_examples: int
    accuracy_by_text: float | None = None  # with text logits alone; None if no label has two examples
    accuracy: float | None = None  # of left-out examples, with this fit; None if no label has two examples


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Prototypes of the examples of one vocabulary version under one model."""

    features: Float32Array  # [G, D], of length one; G labels have examples
    labels: Int64Array  # [G], indices of these labels in the vocabulary, ascending
    num_labels: int  # K
    fit: PrototypeFit

    def logits(self, video_features: Float32Array) -> Float32Array:
        """Return the logits [V, K] that are added for views [V, D]."""
        cosines = scoring.normalize(video_features) @ self.features.T  # [V, G]
        example_logits = np.zeros((len(cosines), self.num_labels), np.float32)
        affinities = affinity(cosines, sharpness=self.fit.sharpness, floor=self.fit.floor)
        example_logits[:, self.labels] = self.fit.weight * affinities
        return example_logits


def affinity(cosines: Float32Array, *, sharpness: float, floor: float | None = None) -> Float32Array:
    """Return the affinity of videos with prototypes, from 0 to 1; 0 for cosines up to the floor."""
    affinities: Float32Array = np.exp(np.float32(sharpness) * (cosines - 1))
    if floor is None:
        return affinities
    at_floor = np.exp(np.float32(sharpness) * np.float32(floor - 1))
    above_floor: Float32Array = np.maximum(affinities - at_floor, 0)
    return above_floor


def fit_prototypes(
    features: Float32Array, labels: Int64Array, text_logits: Float32Array, *, num_labels: int, logit_scale: float
) -> Prototypes:
    """Fit prototypes to the features [E, D] and text logits [E, K + R] of examples, sorted by label index [E].

    R is the number of phrases for "none of the labels".
    """
    used_labels, counts = np.unique(labels, return_counts=True)  # [G], [G]
    normalized = scoring.normalize(features)
    sums = np.add.reduceat(normalized, np.concatenate(([0], np.cumsum(counts[:-1]))), axis=0)  # [G, D]
    fit = _best_fit(normalized, used_labels, counts, sums, text_logits, logit_scale=logit_scale)
    features = scoring.normalize(sums)
    return Prototypes(features=features, labels=used_labels.astype(np.int64), num_labels=num_labels, fit=fit)


@dataclass(frozen=True, kw_only=True)
class _ExampleCosines:
    """Cosines of E examples with the prototypes of G labels."""

    group: Int64Array  # [E], index of each example's label among the labels with examples
    counts: Int64Array  # [G], examples per label
    cosines: Float32Array  # [E, G], with each label's prototype
    leave_one_out: Float32Array  # [E], with the prototype of the other examples of the same label
    floor: float | None
    expected: float  # expected cosine of an example with the prototype of its label's other examples

    @property
    def has_siblings(self) -> NDArray[np.bool_]:
        """Return whether each example's label has other examples [E]."""
        return self.counts[self.group] > 1

    def affinities(self, sharpness: float, label_cosines: Float32Array | float | None) -> Float32Array:
        """Return affinities [E, G], with `label_cosines` for the example's label; None removes its prototype."""
        affinities = affinity(self.cosines, sharpness=sharpness, floor=self.floor)
        rows = np.arange(len(self.group))
        affinities[rows, self.group] = 0
        if label_cosines is not None:
            cosines = np.asarray(label_cosines, np.float32)
            affinities[rows, self.group] = affinity(cosines, sharpness=sharpness, floor=self.floor)
        return affinities


def _best_fit(
    features: Float32Array,
    used_labels: Int64Array,
    counts: Int64Array,
    sums: Float32Array,
    text_logits: Float32Array,
    *,
    logit_scale: float,
) -> PrototypeFit:
    """Return the fit with the lowest mean cross entropy; all labels have equal weight."""
    has_floor = text_logits.shape[1] > len(used_labels)
    examples = _compare_examples(features, counts, sums, has_floor=has_floor)
    label_logits, rest_stats = _split_logits(text_logits, used_labels)
    has_siblings, group = examples.has_siblings, examples.group
    label_weights = 1 / counts[group]
    trials = []  # (loss, weight, sharpness, accuracy of left-out examples)
    for sharpness in SHARPNESSES:
        left_out = examples.affinities(sharpness, np.where(has_siblings, examples.leave_one_out, -1.0))
        expected = examples.affinities(sharpness, examples.expected)
        ablated = examples.affinities(sharpness, None)
        for weight in WEIGHTS:
            scale = weight * logit_scale
            left_out_losses, is_correct = _losses_and_hits(label_logits + scale * left_out, rest_stats, group)
            expected_losses, _ = _losses_and_hits(label_logits + scale * expected, rest_stats, group)
            share = (counts[group] - 1) / counts[group]  # of the leave-one-out loss
            loss = float(np.average(share * left_out_losses + (1 - share) * expected_losses, weights=label_weights))
            if examples.floor is not None:
                ablated_losses, _ = _losses_and_hits(label_logits + scale * ablated, rest_stats, group)
                loss += float(np.average(ablated_losses, weights=label_weights))
            accuracy = float(is_correct[has_siblings].mean()) if has_siblings.any() else None
            trials.append((loss, weight, sharpness, accuracy))
    lowest = min(trial[0] for trial in trials)
    _, weight, sharpness, accuracy = min(
        (trial for trial in trials if trial[0] <= lowest + LOSS_TOLERANCE), key=lambda trial: (trial[1], trial[0])
    )
    return PrototypeFit(
        weight=weight * logit_scale,
        sharpness=sharpness,
        floor=examples.floor,
        chosen_by="leave_one_out" if has_siblings.any() else "assumed_affinity",
        num_examples=len(features),
        accuracy_by_text=next(trial[3] for trial in trials if trial[1] == 0),
        accuracy=accuracy,
    )


def _compare_examples(
    features: Float32Array, counts: Int64Array, sums: Float32Array, *, has_floor: bool
) -> _ExampleCosines:
    """Compare examples [E, D], sorted by label, with all prototypes; derive the floor and the expected cosine."""
    group = np.repeat(np.arange(len(counts)), counts)
    cosines = features @ scoring.normalize(sums).T  # [E, G]
    is_same_label = group[:, None] == np.arange(len(counts))  # [E, G]
    leave_one_out = _leave_one_out_cosines(features, sums, group, counts)
    prior = np.full(PRIOR_COUNT, PRIOR_COSINE)
    between = np.concatenate((cosines[~is_same_label], prior))
    highest_other = np.where(is_same_label, -1.0, cosines).max(axis=1) if len(counts) > 1 else np.zeros(0)
    floor = float(np.quantile(np.concatenate((highest_other, prior)), FLOOR_QUANTILE)) if has_floor else None
    within = leave_one_out[counts[group] > 1]
    halfway = (1 + float(np.median(between))) / 2
    expected = (halfway * EXPECTED_COSINE_COUNT + float(within.sum())) / (EXPECTED_COSINE_COUNT + len(within))
    if floor is not None:
        expected = max(expected, (1 + floor) / 2)  # at or below the floor, examples would have no effect
    return _ExampleCosines(
        group=group, counts=counts, cosines=cosines, leave_one_out=leave_one_out, floor=floor, expected=float(expected)
    )


def _losses_and_hits(
    label_logits: Float64Array, rest_stats: Float64Array, targets: Int64Array
) -> tuple[Float64Array, NDArray[np.bool_]]:
    """Return the cross entropy [E] of each example, and whether its label has the highest logit [E].

    `label_logits` [E, G] and `rest_stats` [E, 2] are described in `_split_logits`; `targets` [E] index G.
    """
    log_probabilities = label_logits[np.arange(len(label_logits)), targets] - np.logaddexp(
        rest_stats[:, 1], _logsumexp(label_logits)
    )
    losses = -np.log(np.exp(log_probabilities) + PROBABILITY_EPSILON)
    is_correct = (label_logits.argmax(axis=1) == targets) & (label_logits.max(axis=1) > rest_stats[:, 0])
    return losses, is_correct


def _split_logits(logits: Float32Array, used_labels: Int64Array) -> tuple[Float64Array, Float64Array]:
    """Split logits [E, K + R] into those of labels with examples [E, G] and (max, logsumexp) of the rest [E, 2].

    The rest, up to a hundred thousand classes, is the same for all fits, so it is summarised once.
    """
    rest = np.delete(logits, used_labels, axis=1).astype(np.float64)
    label_logits = logits[:, used_labels].astype(np.float64)
    if not rest.shape[1]:
        return label_logits, np.full((len(logits), 2), -np.inf)
    return label_logits, np.stack((rest.max(axis=1), _logsumexp(rest)), axis=1)


def _leave_one_out_cosines(
    features: Float32Array, sums: Float32Array, group: Int64Array, counts: Int64Array
) -> Float32Array:
    """Return the cosine [E] of each example with the prototype of its label's other examples; 0 if there are none."""
    others = np.where(counts[group, None] > 1, sums[group] - features, 0)
    cosines: Float32Array = (features * scoring.normalize(others)).sum(axis=1)
    return cosines


def _logsumexp(logits: Float64Array) -> Float64Array:
    """Return the logarithm of the sum of exponentials over the last axis."""
    highest = logits.max(axis=1)
    total: Float64Array = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return total
