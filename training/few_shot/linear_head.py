"""A linear head on normalised video features, whose logits are added to the zero-shot logits.

    logit_k = text logit_k + (features - centre) / spread . weights_k

The model is multinomial logistic regression with an offset; the loss is class-balanced cross entropy plus `l2` times
the squared weights. With zero weights, the result is that of the zero-shot classifier (also for models with a prompt
head), and L2 regularisation pulls the weights towards zero. Centre and spread are those of the shots. `l2` is chosen by
cross-validation: the strongest value whose loss is close to the best one; zero weights are one of the choices.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from serve import scoring
from serve.arrays import Float32Array, Float64Array, Int64Array

STRENGTHS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)  # L2 strengths, strongest first
MAX_FOLDS = 4
LOSS_TOLERANCE = 0.01  # nats; the strongest value whose loss exceeds the best one by at most this is chosen
DEFAULT_STRENGTH = 1e-5  # used if no class has two shots for cross-validation; tuned on rendered clips
MAX_ITERATIONS = 60  # of L-BFGS


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """A linear map from video features to offsets of the logits."""

    weights: Float32Array  # [D, K]
    bias: Float32Array  # [K]
    l2: float | None  # regularisation strength; None: the weights are zero
    chosen_by: str  # how `l2` was chosen: too_few_shots, assumed or cross_validation

    def logits(self, video_features: Float32Array) -> Float32Array:
        """Return the offsets of logits [N, K] for video features [N, D]."""
        example_logits: Float32Array = scoring.normalize(video_features) @ self.weights + self.bias
        return example_logits


def fit_linear_head(features: Float32Array, labels: Int64Array, text_logits: Float32Array) -> LinearHead:
    """Fit the head to N shots: features [N, D], labels [N] and text logits [N, K].

    Shots of a class must be in sampling order, because cross-validation assigns them to folds by position.
    """
    num_labels = text_logits.shape[1]
    weights = np.zeros((features.shape[1], num_labels))
    if len(features) < 2:
        return _make_head(weights, np.zeros(features.shape[1]), l2=None, chosen_by="too_few_shots")
    normalized = scoring.normalize(features).astype(np.float64)
    centre = normalized.mean(axis=0)
    spread = np.sqrt(np.square(normalized - centre).sum(axis=1).mean()) or 1.0
    shots = (normalized - centre) / spread  # unit spread, so that the same strengths suit every model
    # The optimal weights are in the span of the shots, so they are fitted in a basis of it, with r <= N dimensions.
    basis = np.linalg.qr(shots.T)[0]  # [D, r]
    projected, targets = torch.from_numpy(shots @ basis), torch.from_numpy(labels)
    offsets = torch.from_numpy(text_logits.astype(np.float64))
    with _one_thread():
        l2, chosen_by = _select_strength(projected, targets, offsets)
        if l2 is not None:
            strengths = STRENGTHS[: STRENGTHS.index(l2) + 1]
            weights = basis @ _fit_path(projected, targets, offsets, strengths=strengths)[-1].numpy() / spread
    return _make_head(weights, centre, l2=l2, chosen_by=chosen_by)


def _make_head(weights: Float64Array, centre: Float64Array, *, l2: float | None, chosen_by: str) -> LinearHead:
    bias = -(centre @ weights)
    return LinearHead(weights=weights.astype(np.float32), bias=bias.astype(np.float32), l2=l2, chosen_by=chosen_by)


def _select_strength(shots: Tensor, targets: Tensor, offsets: Tensor) -> tuple[float | None, str]:
    """Return (L2 strength, how it was chosen); None means zero weights.

    Shot i of a class is validated in fold i modulo k, and used for training in the other folds. If a class has a single
    shot, it is used for training in all folds.
    """
    order = _positions_within_class(targets)
    num_folds = min(MAX_FOLDS, int(order.max()) + 1)
    if num_folds < 2:
        return DEFAULT_STRENGTH, "assumed"
    counts = torch.bincount(targets)[targets]
    losses = torch.zeros(len(STRENGTHS) + 1, dtype=torch.float64)
    for fold in range(num_folds):
        in_fold = (order % num_folds == fold) & (counts > 1)
        training = (shots[~in_fold], targets[~in_fold], offsets[~in_fold])
        candidates = [torch.zeros(shots.shape[1], offsets.shape[1], dtype=torch.float64)]
        candidates += _fit_path(*training, strengths=STRENGTHS)
        balance = 1 / counts[in_fold]
        for index, weights in enumerate(candidates):
            logits = offsets[in_fold] + shots[in_fold] @ weights
            losses[index] += (functional.cross_entropy(logits, targets[in_fold], reduction="none") * balance).sum()
    losses /= (1 / counts[counts > 1]).sum()
    strongest = int((losses <= losses.min() + LOSS_TOLERANCE).nonzero()[0])  # 0: zero weights
    return (None if strongest == 0 else STRENGTHS[strongest - 1]), "cross_validation"


def _fit_path(shots: Tensor, targets: Tensor, offsets: Tensor, *, strengths: Sequence[float]) -> list[Tensor]:
    """Return the weights [r, K] for each strength; each fit starts from the previous weights."""
    balance = 1 / torch.bincount(targets, minlength=offsets.shape[1])[targets].double()
    balance /= balance.sum()
    weights = torch.zeros(shots.shape[1], offsets.shape[1], dtype=torch.float64, requires_grad=True)
    path = []
    for l2 in strengths:
        optimiser = torch.optim.LBFGS(
            [weights],
            max_iter=MAX_ITERATIONS,
            tolerance_grad=1e-6,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )

        def loss(l2: float = l2, optimiser: torch.optim.LBFGS = optimiser) -> Tensor:
            optimiser.zero_grad()
            losses = functional.cross_entropy(offsets + shots @ weights, targets, reduction="none")
            total = (losses * balance).sum() + l2 * weights.square().sum()
            total.backward()
            return total

        optimiser.step(loss)
        path.append(weights.detach().clone())
    return path


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread within the context; with these small matrices, several threads are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _positions_within_class(targets: Tensor) -> Tensor:
    """Return for each shot [N] the number of earlier shots of the same class."""
    counts: dict[int, int] = {}
    positions = []
    for label in targets.tolist():
        positions.append(counts.get(label, 0))
        counts[label] = positions[-1] + 1
    return torch.tensor(positions)
