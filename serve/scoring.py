"""Compute scores from features: logits of the views against the bank, then means over templates and views.

Axes: V views, M templates that are not averaged in the bank, P phrases, K labels, R distractors, D embedding. A
distractor is a background or negative phrase: it stands for "none of the labels" and competes as a separate class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from serve.arrays import Float32Array, Float64Array, Int64Array
from serve.contract import PhraseRule, ScoringContract


@dataclass(frozen=True, kw_only=True)
class PhraseLayout:
    """Layout of a bank [M, P, D]: the phrases of each label, in the order of labels, then the R distractors."""

    counts: tuple[int, ...]  # [K], number of phrases of each label, at least 1
    rule: PhraseRule

    @cached_property
    def num_phrases(self) -> int:
        """Number of phrases of all labels, without the distractors."""
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


IDENTITY_SCALING = LogitScaling()


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one video for each label [K], and for "none of the labels"."""

    scores: Float32Array | None  # after softmax or sigmoid; None if the function is `none`
    logits: Float32Array  # mean over views and templates; includes the logit scale and the example logits
    cosines: Float32Array  # mean over views and templates
    none_of_these_score: float | None = None  # of the distractors; None without distractors or without scores

    @property
    def best(self) -> float:
        """Highest score, or highest logit if there are no scores."""
        return float((self.logits if self.scores is None else self.scores).max())


def normalize(features: Float32Array) -> Float32Array:
    """Scale vectors along the last axis to unit length; zero vectors remain zero.

    >>> normalize(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).round(4).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    normalized: Float32Array = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    return normalized


def mean_embedding(bank: Float32Array) -> Float32Array:
    """Average a bank [M, K, D] over templates to [1, K, D]; normalize before and after the mean (CLIP's ensembling).

    >>> mean_embedding(np.array([[[2.0, 0.0]], [[0.0, 1.0]]], np.float32)).round(2).tolist()
    [[[0.7099999785423279, 0.7099999785423279]]]
    """
    return normalize(normalize(bank).mean(axis=0, keepdims=True))


def build_bank(features: Float32Array, contract: ScoringContract, *, has_prompt_head: bool) -> Float32Array:
    """Build the bank [M, K, D] (M = 1 if averaged) from the text features [M, K, D] of all prompts.

    The bank of a model with a prompt head is not normalized, because the head normalizes after it has adapted the text
    features to the video.

    >>> rules = ScoringContract(logit_scale=1.0, logit_bias=0.0, ensembling="mean_embedding", view_rule="mean_logit")
    >>> features = np.array([[[2.0, 0.0]], [[4.0, 0.0]]], np.float32)
    >>> build_bank(features, rules, has_prompt_head=False).tolist()
    [[[1.0, 0.0]]]
    >>> build_bank(features, rules, has_prompt_head=True).tolist()
    [[[3.0, 0.0]]]
    """
    is_averaged = contract.ensembling == "mean_embedding"
    if has_prompt_head:
        return features.mean(axis=0, keepdims=True) if is_averaged else features
    return mean_embedding(features) if is_averaged else normalize(features)


def softmax(logits: Float32Array) -> Float32Array:
    """Compute the softmax over the last axis.

    >>> softmax(np.array([0.0, 0.0], np.float32)).tolist()
    [0.5, 0.5]
    """
    probabilities: Float32Array = logits - logits.max(axis=-1, keepdims=True)
    np.exp(probabilities, out=probabilities)  # in place: with a million labels memory bandwidth is the limit
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Float32Array) -> Float32Array:
    """Compute the elementwise sigmoid without overflow.

    >>> sigmoid(np.array([0.0, 1000.0], np.float32)).tolist()
    [0.5, 1.0]
    """
    probabilities: Float32Array = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
    return probabilities


FUNCTIONS: dict[str, Callable[[Float32Array], Float32Array]] = {"softmax": softmax, "sigmoid": sigmoid}


def mean_probability(logits: Float32Array, function: Callable[[Float32Array], Float32Array]) -> Float32Array:
    """Reduce logits [V, M, K] to [K]: apply the function to each view and template, then average (as X-CLIP does).

    >>> mean_probability(np.array([[[0.0, 0.0]], [[1000.0, 0.0]]], np.float32), softmax).tolist()
    [0.75, 0.25]
    """
    return _mean(function(logits))


def mean_logit(logits: Float32Array, function: Callable[[Float32Array], Float32Array]) -> Float32Array:
    """Reduce logits [V, M, K] to [K]: average over views, apply the function, then average over templates.

    >>> mean_logit(np.array([[[0.0, 0.0]], [[1000.0, 0.0]]], np.float32), softmax).tolist()
    [1.0, 0.0]
    """
    return _mean(function(logits if len(logits) == 1 else logits.mean(axis=0, keepdims=True, dtype=np.float32)))


def _mean(values: Float32Array) -> Float32Array:
    """Average [V, M, K] over views and templates to [K]; returns a view if V = M = 1."""
    averaged: Float32Array = values[0, 0] if values.shape[:2] == (1, 1) else values.mean(axis=(0, 1), dtype=np.float32)
    return averaged


VIEW_RULES = {"mean_probability": mean_probability, "mean_logit": mean_logit}


def compute_logits(video_features: Float32Array, bank: Float32Array, contract: ScoringContract) -> Float32Array:
    """Compute logits [V, M, K] from video features [V, D] of any length and a normalized bank [M, K, D].

    >>> rules = ScoringContract(logit_scale=10.0, logit_bias=1.0, ensembling="mean_embedding", view_rule="mean_logit")
    >>> compute_logits(np.array([[5.0, 0.0]], np.float32), np.eye(2, dtype=np.float32)[None], rules).tolist()
    [[[11.0, 1.0]]]
    """
    return logits_of_normalized(normalize(video_features), bank, contract)


def logits_of_normalized(
    video_features_normalized: Float32Array, bank: Float32Array, contract: ScoringContract
) -> Float32Array:
    """Compute the logits [V, M, K] of video features [V, D] of length one; see `compute_logits`.

    >>> rules = ScoringContract(logit_scale=10.0, logit_bias=0.0, ensembling="mean_embedding", view_rule="mean_logit")
    >>> logits_of_normalized(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[None], rules).tolist()
    [[[10.0, 0.0]], [[0.0, 10.0]]]
    """
    num_templates, num_labels, width = bank.shape
    logits: Float32Array = video_features_normalized @ bank.reshape(-1, width).T  # [V, M*K], cosines so far
    logits *= np.float32(contract.logit_scale)
    if contract.logit_bias:
        logits += np.float32(contract.logit_bias)
    return logits.reshape(-1, num_templates, num_labels)


def label_logits(logits: Float32Array, phrase_layout: PhraseLayout) -> Float32Array:
    """Reduce logits of phrases [V, M, P] to logits of labels and distractors [V, M, K + R].

    The logit of a label is the largest (rule "best") or the mean logit of its phrases.

    >>> phrase_layout = PhraseLayout(counts=(2, 1), rule="best")  # two labels, then one distractor
    >>> label_logits(np.array([[[1.0, 3.0, 2.0, 0.0]]], np.float32), phrase_layout).tolist()
    [[[3.0, 2.0, 0.0]]]
    """
    num_labels, num_phrases = len(phrase_layout.counts), phrase_layout.num_phrases
    if num_labels == num_phrases:
        return logits
    phrase_logits = logits[..., :num_phrases]
    if phrase_layout.rule == "best":
        grouped = np.maximum.reduceat(phrase_logits, phrase_layout.starts, axis=-1)
    else:
        grouped = np.add.reduceat(phrase_logits, phrase_layout.starts, axis=-1) / np.array(
            phrase_layout.counts, np.float32
        )
    return np.concatenate((grouped, logits[..., num_phrases:]), axis=-1)


def reduce_logits(
    logits: Float32Array,
    contract: ScoringContract,
    *,
    function: str,
    phrase_layout: PhraseLayout | None = None,
    example_logits: Float32Array | None = None,
    scale: LogitScaling = IDENTITY_SCALING,
) -> Scores:
    """Reduce logits [V, M, P] to scores of the labels by the contract's view rule.

    Without `phrase_layout` each column is a label. `function` is softmax, sigmoid or none. `example_logits` [V, K] are
    added to the logits of the labels. `none_of_these_score` is the sum of the distractors' scores for softmax and the
    largest of them for sigmoid.

    >>> rules = ScoringContract(logit_scale=1.0, logit_bias=0.0, ensembling="mean_embedding", view_rule="mean_logit")
    >>> reduce_logits(np.array([[[0.0, 0.0]], [[2.0, 2.0]]], np.float32), rules, function="softmax").scores.tolist()
    [0.5, 0.5]
    """
    classes = logits if phrase_layout is None else label_logits(logits, phrase_layout)
    num_labels = logits.shape[-1] if phrase_layout is None else len(phrase_layout.counts)
    cosines = (_mean(classes[..., :num_labels]) - np.float32(contract.logit_bias)) / np.float32(contract.logit_scale)
    if example_logits is not None:
        classes = classes.copy()
        classes[..., :num_labels] += example_logits[:, None, :]
    mean_logits = _mean(classes[..., :num_labels])  # [K]
    if function == "none":
        return Scores(scores=None, logits=mean_logits, cosines=cosines)
    scores = VIEW_RULES[contract.view_rule](_scale(classes, scale), FUNCTIONS[function])  # [K + R]
    scores, none_of_these_score = _with_rivals(scores, num_labels, function)
    return Scores(scores=scores, logits=mean_logits, cosines=cosines, none_of_these_score=none_of_these_score)


class ViewReducer:
    """Reduces the logits of one video to scores like `reduce_logits`, from views that arrive in parts.

    >>> rules = ScoringContract(logit_scale=1.0, logit_bias=0.0, ensembling="mean_embedding", view_rule="mean_logit")
    >>> reducer = ViewReducer(rules, function="softmax")
    >>> for part in ([[[0.0, 0.0]]], [[[2.0, 2.0]]]):
    ...     reducer.add(np.array(part, np.float32))
    >>> reducer.scores().scores.tolist()
    [0.5, 0.5]
    """

    def __init__(
        self,
        contract: ScoringContract,
        *,
        function: str,
        phrase_layout: PhraseLayout | None = None,
        scale: LogitScaling = IDENTITY_SCALING,
    ) -> None:
        self._contract, self._function, self._phrasing, self._scale = contract, function, phrase_layout, scale
        self._num_views = 0
        self._text_logits: Float64Array = np.zeros(0)  # [K], sums over views and means over templates
        self._logits: Float64Array = np.zeros(0)  # [K], with examples
        self._values: Float64Array = np.zeros(0)  # [M, K + R], what the view rule averages

    def add(self, logits: Float32Array, example_logits: Float32Array | None = None) -> None:
        """Add the logits [V, M, P] and example logits [V, K] of some views."""
        classes = logits if self._phrasing is None else label_logits(logits, self._phrasing)
        num_labels = logits.shape[-1] if self._phrasing is None else len(self._phrasing.counts)
        text_logits = logit_sum = _sum(classes[..., :num_labels]).mean(axis=0)
        if example_logits is not None:
            classes = classes.copy()
            classes[..., :num_labels] += example_logits[:, None, :]
            logit_sum = _sum(classes[..., :num_labels]).mean(axis=0)
        values = np.zeros(0)
        if self._function != "none":
            scaled = _scale(classes, self._scale)
            is_mean_of_logits = self._contract.view_rule == "mean_logit"
            values = _sum(scaled if is_mean_of_logits else FUNCTIONS[self._function](scaled))
        if not self._num_views:
            self._text_logits, self._logits, self._values = text_logits, logit_sum, values
        else:
            self._text_logits, self._logits = self._text_logits + text_logits, self._logits + logit_sum
            self._values = self._values + values
        self._num_views += len(logits)

    def scores(self) -> Scores:
        """Return the scores of all views together."""
        contract, num = self._contract, self._num_views
        cosines = (self._text_logits / num - contract.logit_bias) / contract.logit_scale
        logits = (self._logits / num).astype(np.float32)
        if self._function == "none":
            return Scores(scores=None, logits=logits, cosines=cosines.astype(np.float32))
        values = (self._values / num).astype(np.float32)  # [M, K + R]
        if contract.view_rule == "mean_logit":
            values = FUNCTIONS[self._function](values)
        scores, none_of_these_score = _with_rivals(values.mean(axis=0, dtype=np.float32), len(logits), self._function)
        return Scores(
            scores=scores, logits=logits, cosines=cosines.astype(np.float32), none_of_these_score=none_of_these_score
        )


def _sum(values: Float32Array) -> Float64Array:
    """Sum [V, M, K] -> [M, K] by BLAS, whose sums are in blocks and so keep more digits than one after the other."""
    ones = np.ones(len(values), np.float32)
    return (ones @ values.reshape(len(values), -1)).astype(np.float64).reshape(values.shape[1:])


def _with_rivals(scores: Float32Array, num_labels: int, function: str) -> tuple[Float32Array, float | None]:
    """Split scores [K + R] into those of labels [K] and the score of all rivals."""
    rivals = scores[num_labels:]
    together = np.sum if function == "softmax" else np.max
    return scores[:num_labels], float(together(rivals)) if len(rivals) else None


def _scale(logits: Float32Array, scale: LogitScaling) -> Float32Array:
    if scale == IDENTITY_SCALING:
        return logits
    scaled: Float32Array = (logits - np.float32(scale.bias)) / np.float32(scale.temperature)
    return scaled


def top_k(scores: Scores, k: int) -> Int64Array:
    """Return the indices of the best labels, best first; ties are ordered by logit, then by index.

    >>> logits = np.array([1.0, 3.0, 2.0], np.float32)
    >>> top_k(Scores(scores=None, logits=logits, cosines=logits / 100), 2).tolist()
    [1, 2]
    """
    primary = scores.logits if scores.scores is None else scores.scores
    return highest(primary, k, ties_by=scores.logits)


def highest(values: Float32Array, k: int, *, ties_by: Float32Array | None = None) -> Int64Array:
    """Indices of the k highest values, highest first; equal values are ordered by `ties_by`, then by place.

    >>> highest(np.array([1.0, 3.0, 2.0, 3.0], np.float32), 3).tolist()
    [1, 3, 2]
    """
    k = min(k, len(values))
    chosen = np.arange(len(values))
    if k < len(values):
        least = np.partition(values, len(values) - k)[len(values) - k]
        chosen = np.flatnonzero(values >= least)  # includes ties with the last one
    second = values if ties_by is None else ties_by
    order = np.lexsort((chosen, -second[chosen], -values[chosen]))
    return chosen[order][:k].astype(np.int64)
