"""Prototypes of example clips: they add to the logits of similar videos.

The affinity of a cache model (Tip-Adapter, arXiv:2207.09519, section 3.1), with one prototype a label, the mean of its
examples' features (as in prototypical networks, arXiv:1703.05175), so that labels with many examples have no advantage:

    affinity(c) = exp(-sharpness * (1 - c))
    logit_k = text logit_k + weight * max(0, affinity(cosine(video, prototype of k)) - affinity(floor))

If some labels (or rivals) have no examples, `floor` is a cosine: for 90 % of the examples, all cosines with prototypes
of other labels are below it. So videos of labels without examples gain nothing and keep the result of text. If every
label has examples, there is no floor.

`weight` and `sharpness` minimise the loss over all labels with examples, with equal weight per label. The loss of an
example uses the n - 1 others of its label (leave-one-out) and, with the weight of one example, the expected cosine of
an example with its label. So labels with one example count too, and an outlier does not disable all examples. With a
floor, the loss also includes each label's examples as if their label had none. Labels without examples keep their text
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
LEAST_PROBABILITY = 0.01  # added to each probability, which bounds the loss of one example
TOLERANCE = 0.1  # nats; among mixtures within it the lowest weight is chosen
STRANGERS_BELOW_FLOOR = 0.9  # share of examples whose best cosine with another label's prototype is below the floor
ASSUMED_COSINE, ASSUMED_COUNT = 0.5, 2  # of strangers: observed before the first example, and how much they count
EXPECTED_COUNT = 2  # examples that the expectation of a cosine within a label counts as


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How examples add to the text, and how that was chosen."""

    weight: float  # logits added for a label if the video equals its prototype and there is no floor
    sharpness: float
    floor: float | None  # cosine from which a video gains anything; None where every label has examples
    chosen_by: Literal["leave_one_out", "assumed_affinity"]
    num_examples: int
    accuracy_by_text: float | None = None  # on left-out examples; None if none could be left out
    accuracy: float | None = None  # on left-out examples with this mixture


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Prototypes of the examples of one vocabulary version under one model."""

    features: Float32Array  # [G, D], of length one; G labels have examples
    labels: Int64Array  # [G], indices of these labels in the vocabulary, ascending
    num_labels: int  # K
    mixture: Mixture

    def logits(self, video_features: Float32Array) -> Float32Array:
        """Return the logits [V, K] added for views [V, D]."""
        cosines = scoring.normalize(video_features) @ self.features.T  # [V, G]
        example_logits = np.zeros((len(cosines), self.num_labels), np.float32)
        near = affinity(cosines, sharpness=self.mixture.sharpness, floor=self.mixture.floor)
        example_logits[:, self.labels] = self.mixture.weight * near
        return example_logits


def affinity(cosines: Float32Array, *, sharpness: float, floor: float | None = None) -> Float32Array:
    """Return the affinity of videos with prototypes, from 0 to 1; 0 up to the floor."""
    near: Float32Array = np.exp(np.float32(sharpness) * (cosines - 1))
    if floor is None:
        return near
    above: Float32Array = np.maximum(near - np.exp(np.float32(sharpness) * np.float32(floor - 1)), 0)
    return above


def fit_prototypes(
    features: Float32Array, labels: Int64Array, text_logits: Float32Array, *, num_labels: int, logit_scale: float
) -> Prototypes:
    """Fit prototypes to examples [E, D] of labels [E], which ascend, with text logits [E, K + R].

    R is the number of rivals, phrases for none of the labels.
    """
    own, counts = np.unique(labels, return_counts=True)
    normalized = scoring.normalize(features)
    sums = np.add.reduceat(normalized, np.concatenate(([0], np.cumsum(counts[:-1]))), axis=0)  # [G, D]
    mixture = _best_mixture(normalized, own, counts, sums, text_logits, num_labels=num_labels, logit_scale=logit_scale)
    return Prototypes(
        features=scoring.normalize(sums), labels=own.astype(np.int64), num_labels=num_labels, mixture=mixture
    )


@dataclass(frozen=True, kw_only=True)
class _Examples:
    """Cosines of examples [E] with the prototypes of G labels."""

    group: Int64Array  # [E], index of each example's label among those with examples
    counts: Int64Array  # [G]
    cosines: Float32Array  # [E, G], with each label's prototype
    left_out: Float32Array  # [E], with the prototype of the others of its label
    floor: float | None
    expected: float  # expected cosine of an example with its label's prototype, from the others

    @property
    def has_others(self) -> NDArray[np.bool_]:
        """Whether the label of each example has another one [E]."""
        return self.counts[self.group] > 1

    def affinities(self, sharpness: float, own: Float32Array | float | None) -> Float32Array:
        """Return affinities [E, G]; the own label has the cosine `own`, or 0 as if it had no examples."""
        near = affinity(self.cosines, sharpness=sharpness, floor=self.floor)
        rows = np.arange(len(self.group))
        near[rows, self.group] = 0
        if own is not None:
            near[rows, self.group] = affinity(np.asarray(own, np.float32), sharpness=sharpness, floor=self.floor)
        return near


def _best_mixture(
    features: Float32Array,
    own: Int64Array,
    counts: Int64Array,
    sums: Float32Array,
    text_logits: Float32Array,
    *,
    num_labels: int,
    logit_scale: float,
) -> Mixture:
    """Return the mixture with the lowest mean cross entropy; all labels have equal weight."""
    examples = _compared(features, counts, sums, has_strangers=text_logits.shape[1] > len(own))
    by_text, others = _split(text_logits, own)
    has_others, group = examples.has_others, examples.group
    balance = 1 / counts[group]
    found = []
    for sharpness in SHARPNESSES:
        by_rest = examples.affinities(sharpness, np.where(has_others, examples.left_out, -1.0))
        as_expected = examples.affinities(sharpness, examples.expected)
        by_others = examples.affinities(sharpness, None)
        for weight in WEIGHTS:
            scale = weight * logit_scale
            losses, is_right = _judged(by_text + scale * by_rest, others, group)
            expected, _ = _judged(by_text + scale * as_expected, others, group)
            known = (counts[group] - 1) / counts[group]  # the other examples against one expected cosine
            loss = float(np.average(known * losses + (1 - known) * expected, weights=balance))
            if examples.floor is not None:
                strangers, _ = _judged(by_text + scale * by_others, others, group)
                loss += float(np.average(strangers, weights=balance))
            found.append((loss, weight, sharpness, float(is_right[has_others].mean()) if has_others.any() else None))
    lowest = min(entry[0] for entry in found)
    loss, weight, sharpness, accuracy = min(
        (entry for entry in found if entry[0] <= lowest + TOLERANCE), key=lambda entry: (entry[1], entry[0])
    )
    return Mixture(
        weight=weight * logit_scale,
        sharpness=sharpness,
        floor=examples.floor,
        chosen_by="leave_one_out" if has_others.any() else "assumed_affinity",
        num_examples=len(features),
        accuracy_by_text=next(entry[3] for entry in found if entry[1] == 0),
        accuracy=accuracy,
    )


def _compared(features: Float32Array, counts: Int64Array, sums: Float32Array, *, has_strangers: bool) -> _Examples:
    """Compare examples [E, D], sorted by label, with all prototypes; derive the floor and the expected cosine."""
    group = np.repeat(np.arange(len(counts)), counts)
    cosines = features @ scoring.normalize(sums).T  # [E, G]
    is_own = group[:, None] == np.arange(len(counts))
    left_out = _without_self(features, sums, group, counts)
    assumed = np.full(ASSUMED_COUNT, ASSUMED_COSINE)
    between = np.concatenate((cosines[~is_own], assumed))
    nearest = np.where(is_own, -1.0, cosines).max(axis=1) if len(counts) > 1 else np.zeros(0)
    floor = float(np.quantile(np.concatenate((nearest, assumed)), STRANGERS_BELOW_FLOOR)) if has_strangers else None
    within = left_out[counts[group] > 1]
    halfway = (1 + float(np.median(between))) / 2
    expected = (halfway * EXPECTED_COUNT + float(within.sum())) / (EXPECTED_COUNT + len(within))
    if floor is not None:
        expected = max(expected, (1 + floor) / 2)  # otherwise no example could count at all
    return _Examples(
        group=group, counts=counts, cosines=cosines, left_out=left_out, floor=floor, expected=float(expected)
    )


def _judged(logits: Float64Array, others: Float64Array, right: Int64Array) -> tuple[Float64Array, NDArray[np.bool_]]:
    """Return cross entropies [E] and hits [E] of logits [E, G] of labels with examples and of `others` (`_split`)."""
    log_probabilities = logits[np.arange(len(logits)), right] - np.logaddexp(others[:, 1], _log_sum(logits))
    losses = -np.log(np.exp(log_probabilities) + LEAST_PROBABILITY)
    return losses, (logits.argmax(axis=1) == right) & (logits.max(axis=1) > others[:, 0])


def _split(logits: Float32Array, own: Int64Array) -> tuple[Float64Array, Float64Array]:
    """Split logits [J, K + R] into those of labels with examples [J, G] and (max, log-sum-exp) of the rest [J, 2].

    The rest, up to a hundred thousand labels, is the same for all mixtures.
    """
    rest = np.delete(logits, own, axis=1).astype(np.float64)
    if not rest.shape[1]:
        return logits[:, own].astype(np.float64), np.full((len(logits), 2), -np.inf)
    return logits[:, own].astype(np.float64), np.stack((rest.max(axis=1), _log_sum(rest)), axis=1)


def _without_self(features: Float32Array, sums: Float32Array, group: Int64Array, counts: Int64Array) -> Float32Array:
    """Return the cosine [E] of each example with the prototype of the others of its label; 0 if there are none."""
    others = np.where(counts[group, None] > 1, sums[group] - features, 0)
    cosines: Float32Array = (features * scoring.normalize(others)).sum(axis=1)
    return cosines


def _log_sum(logits: Float64Array) -> Float64Array:
    """Return the logarithm of the sum of exponentials over the last axis."""
    highest = logits.max(axis=1)
    total: Float64Array = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return total
