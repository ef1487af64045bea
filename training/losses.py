"""Losses of the two systems and of training against a list of phrases."""

import torch
from torch import Tensor
from torch.nn import functional

LABEL_SHARPNESS = 10.0  # of ActionCLIP's target distribution: softmax of 10 times the label-equality matrix


def label_targets(labels: Tensor) -> Tensor:
    """Labels [B] -> rows [B, B] that sum to one, high where two samples have the same label."""
    return (LABEL_SHARPNESS * (labels[:, None] == labels[None, :]).float()).softmax(dim=1)


def kl_to_labels(logits: Tensor, targets: Tensor) -> Tensor:
    """KL divergence of softmax(logits) [B, B] from targets [B, B], summed over columns, mean over rows."""
    return functional.kl_div(logits.log_softmax(dim=1), targets, reduction="batchmean")


def actionclip_kl(logits: Tensor, labels: Tensor) -> Tensor:
    """ActionCLIP's loss of logits [B, B] (video to text): both directions against the labels [B], mean of the two.

    Source: ActionCLIP (arXiv:2109.08472) section 3.2, with the factor 10 of the released code.
    """
    targets = label_targets(labels)
    return (kl_to_labels(logits, targets) + kl_to_labels(logits.T, targets)) / 2


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
