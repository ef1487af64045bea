"""Losses of the two systems and of training against a list of phrases."""

import torch
from torch import Tensor
from torch.nn import functional

LABEL_SHARPNESS = 10.0  # of ActionCLIP's target distribution: softmax of 10 times the label-equality matrix


def label_equality(labels: Tensor) -> Tensor:
    """Labels [B] -> float matrix [B, B], one where two samples have the same label."""
    return (labels[:, None] == labels[None, :]).float()


def actionclip_kl(logits: Tensor, labels: Tensor) -> Tensor:
    """KL divergence of logits [B, B] (video to text) from the label-equality targets, both directions, mean of the two.

    Source: ActionCLIP (arXiv:2109.08472) section 3.2, with the factor 10 of the released code.
    """
    target = (LABEL_SHARPNESS * label_equality(labels)).softmax(dim=1)
    directions = [
        functional.kl_div(scores.log_softmax(dim=1), target, reduction="batchmean") for scores in (logits, logits.T)
    ]
    return (directions[0] + directions[1]) / 2


def phrase_cross_entropy(video: Tensor, phrases: Tensor, targets: Tensor, *, scale: Tensor) -> Tensor:
    """Cross entropy of videos [B, D] against all phrases [K, D]: every other phrase is a negative, at every step."""
    logits = scale * functional.normalize(video, dim=-1) @ functional.normalize(phrases, dim=-1).T  # [B, K]
    return functional.cross_entropy(logits, targets)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of -sum q log p for soft targets [B, K] (X-CLIP with mixup or cutmix)."""
    return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """(1 - s) * nll + s * mean(-log p), X-CLIP's loss without mixing; labels [B]."""
    log_probabilities = logits.log_softmax(dim=-1)
    nll = -log_probabilities.gather(1, labels[:, None]).squeeze(1)
    return torch.mean((1 - smoothing) * nll - smoothing * log_probabilities.mean(dim=-1))
