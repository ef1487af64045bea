"""Linear head on normalised video features, as an offset to the zero-shot logits.

    logit_k = text logit_k + (features - centre) / spread . weights_k

Zero weights are the zero-shot classifier, also for models with a prompt head, and L2 regularisation pulls towards them.
The model is multinomial logistic regression with an offset: class-balanced cross entropy plus `l2` times the squared
weights. Centre and spread are those of the shots. `l2` is chosen by cross-validation: the strongest value whose loss is
close to the best; zero weights are one of the choices.
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
MOST_FOLDS = 4
TOLERANCE = 0.01  # nats; the strongest value within this of the best loss is chosen
ASSUMED_STRENGTH = 1e-5  # if no class has two shots for cross-validation; chosen on rendered clips
STEPS = 60  # of L-BFGS


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """Offsets of logits learned from shots, and their regularisation."""

    weights: Float32Array  # [D, K], in logits
    bias: Float32Array  # [K]
    l2: float | None  # None: the weights are zero
    chosen_by: str

    def logits(self, video_features: Float32Array) -> Float32Array:
        """Return the offsets of logits [N, K] for video features [N, D]."""
        example_logits: Float32Array = scoring.normalize(video_features) @ self.weights + self.bias
        return example_logits


def fit_linear_head(features: Float32Array, labels: Int64Array, text_logits: Float32Array) -> LinearHead:
    """Fit the head to shots [E, D] of classes [E], in sampled order per class, with text logits [E, K]."""
    num_labels = text_logits.shape[1]
    weights = np.zeros((features.shape[1], num_labels))
    if len(features) < 2:
        return _head(weights, np.zeros(features.shape[1]), l2=None, chosen_by="too_few_shots")
    normalized = scoring.normalize(features).astype(np.float64)
    centre = normalized.mean(axis=0)
    spread = np.sqrt(np.square(normalized - centre).sum(axis=1).mean()) or 1.0
    shots = (normalized - centre) / spread  # so that the same strengths suit models with concentrated features
    # the weights are in the span of the shots: in a basis of it, the problem has at most E rows
    span = np.linalg.qr(shots.T)[0]  # [D, r]
    turned, targets = torch.from_numpy(shots @ span), torch.from_numpy(labels)
    offsets = torch.from_numpy(text_logits.astype(np.float64))
    with _one_thread():
        l2, chosen_by = _best_strength(turned, targets, offsets)
        if l2 is not None:
            path = STRENGTHS[: STRENGTHS.index(l2) + 1]
            weights = span @ _fitted(turned, targets, offsets, strengths=path)[-1].numpy() / spread
    return _head(weights, centre, l2=l2, chosen_by=chosen_by)


def _head(weights: Float64Array, centre: Float64Array, *, l2: float | None, chosen_by: str) -> LinearHead:
    bias = -(centre @ weights)
    return LinearHead(weights=weights.astype(np.float32), bias=bias.astype(np.float32), l2=l2, chosen_by=chosen_by)


def _best_strength(shots: Tensor, targets: Tensor, offsets: Tensor) -> tuple[float | None, str]:
    """Return (L2, how it was chosen); None means zero weights.

    Fold f of k has every k-th shot of each class, from the f-th on. The only shot of a class is always trained on.
    """
    order = _order_within_class(targets)
    num_folds = min(MOST_FOLDS, int(order.max()) + 1)
    if num_folds < 2:
        return ASSUMED_STRENGTH, "assumed"
    counts = torch.bincount(targets)[targets]
    losses = torch.zeros(len(STRENGTHS) + 1, dtype=torch.float64)
    for fold in range(num_folds):
        is_out = (order % num_folds == fold) & (counts > 1)
        kept = (shots[~is_out], targets[~is_out], offsets[~is_out])
        weights = [torch.zeros(shots.shape[1], offsets.shape[1], dtype=torch.float64)]
        weights += _fitted(*kept, strengths=STRENGTHS)
        balance = 1 / counts[is_out]
        for place, each in enumerate(weights):
            logits = offsets[is_out] + shots[is_out] @ each
            losses[place] += (functional.cross_entropy(logits, targets[is_out], reduction="none") * balance).sum()
    losses /= (1 / counts[counts > 1]).sum()
    place = int((losses <= losses.min() + TOLERANCE).nonzero()[0])  # the strongest one
    return (None if place == 0 else STRENGTHS[place - 1]), "cross_validation"


def _fitted(shots: Tensor, targets: Tensor, offsets: Tensor, *, strengths: Sequence[float]) -> list[Tensor]:
    """Yield weights [r, K] for each strength; each fit starts from the previous one."""
    balance = 1 / torch.bincount(targets, minlength=offsets.shape[1])[targets].double()
    balance /= balance.sum()
    weights = torch.zeros(shots.shape[1], offsets.shape[1], dtype=torch.float64, requires_grad=True)
    found = []
    for l2 in strengths:
        optimiser = torch.optim.LBFGS(
            [weights], max_iter=STEPS, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
        )

        def loss(l2: float = l2, optimiser: torch.optim.LBFGS = optimiser) -> Tensor:
            optimiser.zero_grad()
            losses = functional.cross_entropy(offsets + shots @ weights, targets, reduction="none")
            total = (losses * balance).sum() + l2 * weights.square().sum()
            total.backward()
            return total

        optimiser.step(loss)
        found.append(weights.detach().clone())
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread: the matrices are small, so synchronisation would dominate."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _order_within_class(targets: Tensor) -> Tensor:
    """Return the number of earlier shots of the same class for each shot."""
    seen: dict[int, int] = {}
    found = []
    for label in targets.tolist():
        found.append(seen.get(label, 0))
        seen[label] = found[-1] + 1
    return torch.tensor(found)
