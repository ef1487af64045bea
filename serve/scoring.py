"""From features to scores: logits of views against the bank, and the contract's means over templates and views.

Axes: V views, M templates kept apart, P phrases, K labels, R rivals, D embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from serve.arrays import Float32Array, Int64Array
from serve.contract import PhraseRule, ScoringContract


@dataclass(frozen=True, kw_only=True)
class PhraseLayout:
    """Which columns of a bank [M, P, D] belong to which label: phrases per label in order, then P - sum(counts) rivals.

    Rivals are phrases for "none of the labels"; each rival competes as a separate class.
    """

    counts: tuple[int, ...]  # [K], at least one each
    rule: PhraseRule

    @cached_property
    def num_phrases(self) -> int:
        """Number of phrases of the labels, without rivals."""
        return sum(self.counts)

    @cached_property
    def starts(self) -> Int64Array:
        """Index of the first phrase of each label [K]."""
        return np.concatenate(([0], np.cumsum(self.counts[:-1], dtype=np.int64))).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class LogitScaling:
    """Calibration of logits: score = function((logit - bias) / temperature)."""

    temperature: float = 1.0
    bias: float = 0.0


PLAIN = LogitScaling()


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one video for each label [K], and for "none of the labels"."""

    scores: Float32Array | None  # after softmax or sigmoid; None without a function
    logits: Float32Array  # mean over views and templates, the model's scale and examples included
    cosines: Float32Array  # mean over views and templates
    rival_score: float | None = None  # of all rivals; None without rivals or without a function

    @property
    def best(self) -> float:
        """Highest score, or highest logit if there are no scores."""
        return float((self.logits if self.scores is None else self.scores).max())


def unit(features: Float32Array) -> Float32Array:
    """Normalise to unit length along the last axis; zero rows stay zero.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).round(4).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    normalized: Float32Array = features / np.maximum(lengths, np.finfo(np.float32).tiny)  # a zero row stays zero
    return normalized


def mean_embedding(bank: Float32Array) -> Float32Array:
    """Bank [M, K, D] -> [1, K, D]: normalise each template's features, average, normalise again (CLIP's ensembling).

    >>> mean_embedding(np.array([[[2.0, 0.0]], [[0.0, 1.0]]], np.float32)).round(2).tolist()
    [[[0.7099999785423279, 0.7099999785423279]]]
    """
    return unit(unit(bank).mean(axis=0, keepdims=True))


def bank_of(features: Float32Array, contract: ScoringContract, *, has_prompt_head: bool) -> Float32Array:
    """Build the bank [M, K, D] (M = 1 if averaged) from text features [M, K, D] of all prompts, by the ensembling rule.

    A prompt head normalises after adding the video's prompt, so its bank keeps the features' lengths.

    >>> rules = ScoringContract(logit_scale=1.0, logit_bias=0.0, ensembling="mean_embedding", view_rule="mean_logit")
    >>> features = np.array([[[2.0, 0.0]], [[4.0, 0.0]]], np.float32)
    >>> bank_of(features, rules, has_prompt_head=False).tolist()
    [[[1.0, 0.0]]]
    >>> bank_of(features, rules, has_prompt_head=True).tolist()
    [[[3.0, 0.0]]]
    """
    is_averaged = contract.ensembling == "mean_embedding"
    if has_prompt_head:
        return features.mean(axis=0, keepdims=True) if is_averaged else features
    return mean_embedding(features) if is_averaged else unit(features)


def softmax(logits: Float32Array) -> Float32Array:
    """Softmax over the last axis.

    >>> softmax(np.array([0.0, 0.0], np.float32)).tolist()
    [0.5, 0.5]
    """
    probabilities: Float32Array = logits - logits.max(axis=-1, keepdims=True)
    np.exp(probabilities, out=probabilities)  # in place: with a million labels memory bandwidth is the limit
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Float32Array) -> Float32Array:
    """Elementwise sigmoid without overflow.

    >>> sigmoid(np.array([0.0, 1000.0], np.float32)).tolist()
    [0.5, 1.0]
    """
    probabilities: Float32Array = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
    return probabilities


FUNCTIONS: dict[str, Callable[[Float32Array], Float32Array]] = {"softmax": softmax, "sigmoid": sigmoid}


def mean_probability(logits: Float32Array, function: Callable[[Float32Array], Float32Array]) -> Float32Array:
    """Logits [V, M, K] -> [K]: the function on each view, then the mean over views (X-CLIP's sum of softmax over V).

    >>> mean_probability(np.array([[[0.0, 0.0]], [[1000.0, 0.0]]], np.float32), softmax).tolist()
    [0.75, 0.25]
    """
    return _mean(function(logits))


def mean_logit(logits: Float32Array, function: Callable[[Float32Array], Float32Array]) -> Float32Array:
    """Logits [V, M, K] -> [K]: the mean over views, then the function; probabilities are averaged over templates.

    >>> mean_logit(np.array([[[0.0, 0.0]], [[1000.0, 0.0]]], np.float32), softmax).tolist()
    [1.0, 0.0]
    """
    return _mean(function(logits if len(logits) == 1 else logits.mean(axis=0, keepdims=True, dtype=np.float32)))


def _mean(values: Float32Array) -> Float32Array:
    """Mean [V, M, K] -> [K], without copying if V = M = 1."""
    averaged: Float32Array = values[0, 0] if values.shape[:2] == (1, 1) else values.mean(axis=(0, 1), dtype=np.float32)
    return averaged


VIEW_RULES = {"mean_probability": mean_probability, "mean_logit": mean_logit}


def logits_of(video_features: Float32Array, bank: Float32Array, contract: ScoringContract) -> Float32Array:
    """Video features [V, D] of any length and a normalised bank [M, K, D] -> logits [V, M, K].

    >>> rules = ScoringContract(logit_scale=10.0, logit_bias=1.0, ensembling="mean_embedding", view_rule="mean_logit")
    >>> logits_of(np.array([[5.0, 0.0]], np.float32), np.eye(2, dtype=np.float32)[None], rules).tolist()
    [[[11.0, 1.0]]]
    """
    num_templates, num_labels, width = bank.shape
    logits: Float32Array = unit(video_features) @ bank.reshape(-1, width).T  # [V, M*K], cosines so far
    logits *= np.float32(contract.logit_scale)
    if contract.logit_bias:
        logits += np.float32(contract.logit_bias)
    return logits.reshape(-1, num_templates, num_labels)


def label_logits(logits: Float32Array, phrasing: PhraseLayout) -> Float32Array:
    """Logits of phrases [V, M, P] -> of labels and rivals [V, M, K + R], by the best or the mean of a label.

    >>> phrasing = PhraseLayout(counts=(2, 1), rule="best")  # two labels, then one rival
    >>> label_logits(np.array([[[1.0, 3.0, 2.0, 0.0]]], np.float32), phrasing).tolist()
    [[[3.0, 2.0, 0.0]]]
    """
    num_labels, num_phrases = len(phrasing.counts), phrasing.num_phrases
    if num_labels == num_phrases:
        return logits
    own = logits[..., :num_phrases]
    if phrasing.rule == "best":
        grouped = np.maximum.reduceat(own, phrasing.starts, axis=-1)
    else:
        grouped = np.add.reduceat(own, phrasing.starts, axis=-1) / np.array(phrasing.counts, np.float32)
    return np.concatenate((grouped, logits[..., num_phrases:]), axis=-1)


def reduce_logits(
    logits: Float32Array,
    contract: ScoringContract,
    *,
    function: str,
    phrasing: PhraseLayout | None = None,
    example_logits: Float32Array | None = None,
    scale: LogitScaling = PLAIN,
) -> Scores:
    """Logits [V, M, P] -> scores of each label by the contract's view rule; without `phrasing` each column is a label.

    `function` is softmax, sigmoid or none; `example_logits` [V, K] are added to the logits of labels. Under softmax
    `rival_score` is the sum of the rivals' scores, under sigmoid the largest of them.

    >>> rules = ScoringContract(logit_scale=1.0, logit_bias=0.0, ensembling="mean_embedding", view_rule="mean_logit")
    >>> reduce_logits(np.array([[[0.0, 0.0]], [[2.0, 2.0]]], np.float32), rules, function="softmax").scores.tolist()
    [0.5, 0.5]
    """
    classes = logits if phrasing is None else label_logits(logits, phrasing)
    num_labels = logits.shape[-1] if phrasing is None else len(phrasing.counts)
    cosines = (_mean(classes[..., :num_labels]) - np.float32(contract.logit_bias)) / np.float32(contract.logit_scale)
    if example_logits is not None:
        classes = classes.copy()
        classes[..., :num_labels] += example_logits[:, None, :]
    mean_logits = _mean(classes[..., :num_labels])  # [K]
    if function == "none":
        return Scores(scores=None, logits=mean_logits, cosines=cosines)
    scores = VIEW_RULES[contract.view_rule](_scaled(classes, scale), FUNCTIONS[function])  # [K + R]
    rivals = scores[num_labels:]
    together = np.sum if function == "softmax" else np.max
    rival_score = float(together(rivals)) if len(rivals) else None
    return Scores(scores=scores[:num_labels], logits=mean_logits, cosines=cosines, rival_score=rival_score)


def _scaled(logits: Float32Array, scale: LogitScaling) -> Float32Array:
    if scale == PLAIN:
        return logits
    scaled: Float32Array = (logits - np.float32(scale.bias)) / np.float32(scale.temperature)
    return scaled


def top_k(scores: Scores, k: int) -> Int64Array:
    """Indices of the best labels, best first; equal scores are ordered by logit, then by place.

    >>> logits = np.array([1.0, 3.0, 2.0], np.float32)
    >>> top_k(Scores(scores=None, logits=logits, cosines=logits / 100), 2).tolist()
    [1, 2]
    """
    primary = scores.logits if scores.scores is None else scores.scores
    k = min(k, len(primary))
    chosen = np.arange(len(primary))
    if k < len(primary):
        least = np.partition(primary, len(primary) - k)[len(primary) - k]
        chosen = np.flatnonzero(primary >= least)  # includes ties with the last one
    order = np.lexsort((chosen, -scores.logits[chosen], -primary[chosen]))
    return chosen[order][:k].astype(np.int64)
