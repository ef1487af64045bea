"""Prototypes of example clips: they add to the logits of similar videos.

The affinity of a cache model (Tip-Adapter, arXiv:2207.09519, section 3.1) with one prototype per label, the mean of the
features of its examples (as in prototypical networks, arXiv:1703.05175), so that the number of examples of a label does
not matter:

    logit_k = text logit_k + weight * exp(-sharpness * (1 - cosine(video, prototype of k)))

`weight` and `sharpness` are chosen by leave-one-out: each example is classified by the text and the other examples. If
some labels have no examples, all examples of a label are left out together as well, which stands for videos of labels
without examples: the examples of other labels must not attract them. Labels without examples keep their text logits.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serve import scoring
from serve.arrays import Float32Array, Float64Array, Int64Array

WEIGHTS = (0.0, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # in units of the model's logit scale
SHARPNESSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
LEAST_PROBABILITY = 0.01  # added to each probability, which bounds the loss of one example
TOLERANCE = 0.02  # nats; among mixtures within it the lowest weight is chosen
ASSUMED_AFFINITY = 0.2  # of a video with the only example of its label
DEFAULT_SHARPNESS = 8.0


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How examples add to the text, and how that was chosen."""

    weight: float  # logits added for a label if the video equals its prototype
    sharpness: float
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
        cosines = scoring.unit(video_features) @ self.features.T  # [V, G]
        example_logits = np.zeros((len(cosines), self.num_labels), np.float32)
        example_logits[:, self.labels] = self.mixture.weight * affinity(cosines, sharpness=self.mixture.sharpness)
        return example_logits


def affinity(cosines: Float32Array, *, sharpness: float) -> Float32Array:
    """Return the affinity of videos with prototypes, from 0 to 1."""
    near: Float32Array = np.exp(np.float32(sharpness) * (cosines - 1))
    return near


def fit_prototypes(
    features: Float32Array, labels: Int64Array, text_logits: Float32Array, *, num_labels: int, logit_scale: float
) -> Prototypes:
    """Fit prototypes to examples [E, D] of labels [E], which ascend, with text logits [E, K + R].

    R is the number of rivals, phrases for none of the labels.
    """
    own, counts = np.unique(labels, return_counts=True)
    normalized = scoring.unit(features)
    sums = np.add.reduceat(normalized, np.concatenate(([0], np.cumsum(counts[:-1]))), axis=0)  # [G, D]
    mixture = _best_mixture(normalized, own, counts, sums, text_logits, num_labels=num_labels, logit_scale=logit_scale)
    return Prototypes(features=scoring.unit(sums), labels=own.astype(np.int64), num_labels=num_labels, mixture=mixture)


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
    """Return the mixture with the lowest mean cross entropy of left-out examples; all labels have equal weight.

    If no label has two examples, none can be left out: the affinity of a video with the only example of its label is
    taken to be `ASSUMED_AFFINITY`, and the sharpness follows from the distances between labels.
    """
    group = np.repeat(np.arange(len(counts)), counts)  # [E], index of each example's label among those with examples
    cosines = features @ scoring.unit(sums).T  # [E, G]
    without_self = _without_self(features, sums, group, counts)  # [E]
    by_text, others = _split(text_logits, own)
    has_others = counts[group] > 1
    is_assumed = not has_others.any()
    judged = np.ones_like(has_others) if is_assumed else has_others
    balance, rows = 1 / counts[group], np.arange(len(features))
    found = []
    for sharpness in SHARPNESSES if len(counts) > 1 and not is_assumed else (_spread(cosines, group),):
        by_others = affinity(cosines, sharpness=sharpness)  # [E, G]
        by_others[rows, group] = 0
        by_rest = by_others.copy()
        by_rest[rows, group] = ASSUMED_AFFINITY if is_assumed else affinity(without_self, sharpness=sharpness)
        for weight in WEIGHTS:
            losses, is_right = _judged(by_text + weight * logit_scale * by_rest, others, group)
            loss = float(np.average(losses[judged], weights=balance[judged]))
            if num_labels > len(counts):
                strangers, _ = _judged(by_text + weight * logit_scale * by_others, others, group)
                loss += float(np.average(strangers, weights=balance))
            found.append((loss, weight, sharpness, float(is_right[judged].mean())))
    lowest = min(found)[0]
    weight, loss, sharpness, accuracy = min(
        (weight, loss, sharpness, accuracy) for loss, weight, sharpness, accuracy in found if loss <= lowest + TOLERANCE
    )
    return Mixture(
        weight=weight * logit_scale,
        sharpness=sharpness,
        chosen_by="assumed_affinity" if is_assumed else "leave_one_out",
        num_examples=len(features),
        accuracy_by_text=None if is_assumed else next(entry[3] for entry in found if entry[1] == 0),
        accuracy=None if is_assumed else accuracy,
    )


def _spread(cosines: Float32Array, group: Int64Array) -> float:
    """Return the sharpness at which an example has affinity exp(-4) with a typical prototype of another label."""
    apart = cosines[group[:, None] != np.arange(cosines.shape[1])]
    if not len(apart):
        return DEFAULT_SHARPNESS
    return float(min(4 / max(1 - float(np.median(apart)), 1e-3), max(SHARPNESSES)))


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
    cosines: Float32Array = (features * scoring.unit(others)).sum(axis=1)
    return cosines


def _log_sum(logits: Float64Array) -> Float64Array:
    """Return the logarithm of the sum of exponentials over the last axis."""
    highest = logits.max(axis=1)
    total: Float64Array = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return total
