"""From features to scores: b x k logits against the bank, and the contract's means over templates and views.

Axes: V views, M templates kept apart, K labels, D embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from serve.arrays import Float32Array, Int64Array
from serve.contract import ScoringContract


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What one video gets for each label [K]."""

    scores: Float32Array | None  # after the function; None where there is none
    logits: Float32Array  # mean over views and templates, scale included
    cosines: Float32Array  # mean over views and templates

    @property
    def best(self) -> float:
        """Highest score, or highest logit where there are no scores."""
        return float((self.logits if self.scores is None else self.scores).max())


def unit(features: Float32Array) -> Float32Array:
    """Rows of length one along the last axis."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    normalized: Float32Array = features / np.maximum(lengths, np.finfo(np.float32).tiny)  # a zero row stays zero
    return normalized


def mean_embedding(bank: Float32Array) -> Float32Array:
    """Bank [M, K, D] -> [1, K, D]: normalise each template's features, average, normalise again (CLIP's ensembling)."""
    return unit(unit(bank).mean(axis=0, keepdims=True))


def softmax(logits: Float32Array) -> Float32Array:
    """Over the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Float32Array = raised / raised.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Float32Array) -> Float32Array:
    """Of each element, without overflow."""
    probabilities: Float32Array = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
    return probabilities


FUNCTIONS: dict[str, Callable[[Float32Array], Float32Array]] = {"softmax": softmax, "sigmoid": sigmoid}


def mean_probability(logits: Float32Array, function: Callable[[Float32Array], Float32Array]) -> Float32Array:
    """Logits [V, M, K] -> [K]: the function on each view, then the mean over views (X-CLIP's sum of softmax over V)."""
    averaged: Float32Array = function(logits).mean(axis=(0, 1), dtype=np.float32)
    return averaged


def mean_logit(logits: Float32Array, function: Callable[[Float32Array], Float32Array]) -> Float32Array:
    """Logits [V, M, K] -> [K]: the mean over views, then the function; probabilities are averaged over templates."""
    averaged: Float32Array = function(logits.mean(axis=0, dtype=np.float32)).mean(axis=0, dtype=np.float32)
    return averaged


VIEW_RULES = {"mean_probability": mean_probability, "mean_logit": mean_logit}


def logits_of(video_features: Float32Array, bank: Float32Array, contract: ScoringContract) -> Float32Array:
    """Video features [V, D] of any length and a normalised bank [M, K, D] -> logits [V, M, K]."""
    num_templates, num_labels, width = bank.shape
    cosines = unit(video_features) @ bank.reshape(-1, width).T  # [V, M*K]
    logits = np.float32(contract.logit_scale) * cosines + np.float32(contract.logit_bias)
    return logits.reshape(-1, num_templates, num_labels)


def reduce_logits(logits: Float32Array, contract: ScoringContract, *, function: str) -> Scores:
    """Logits [V, M, K] -> scores of each label by the contract's view rule."""
    mean_logits = logits.mean(axis=(0, 1), dtype=np.float32)  # [K]
    scores = None if function == "none" else VIEW_RULES[contract.view_rule](logits, FUNCTIONS[function])
    cosines = (mean_logits - np.float32(contract.logit_bias)) / np.float32(contract.logit_scale)
    return Scores(scores=scores, logits=mean_logits, cosines=cosines)


def score(video_features: Float32Array, bank: Float32Array, contract: ScoringContract, *, function: str) -> Scores:
    """Video features [V, D] against a normalised bank [M, K, D]; `function` is softmax, sigmoid or none."""
    return reduce_logits(logits_of(video_features, bank, contract), contract, function=function)


def top_k(scores: Scores, k: int) -> Int64Array:
    """Indices of the best labels, best first; equal scores are ordered by logit, then by place."""
    primary = scores.logits if scores.scores is None else scores.scores
    k = min(k, len(primary))
    chosen = np.arange(len(primary))
    if k < len(primary):
        least = np.partition(primary, len(primary) - k)[len(primary) - k]
        chosen = np.flatnonzero(primary >= least)  # ties with the last one stay in
    order = np.lexsort((chosen, -scores.logits[chosen], -primary[chosen]))
    return chosen[order][:k].astype(np.int64)
