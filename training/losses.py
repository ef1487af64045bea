"""Losses of ActionCLIP and X-CLIP, and of classification among phrases."""

import torch
from torch import Tensor
from torch.nn import functional

LABEL_SHARPNESS = 10.0  # ActionCLIP's targets: softmax of 10 times the label-equality matrix


def label_targets(labels: Tensor) -> Tensor:
    """Convert labels [B] to targets [B, B]: rows sum to one, and samples of equal label have high values."""
    return (LABEL_SHARPNESS * (labels[:, None] == labels[None, :]).float()).softmax(dim=1)


def kl_to_labels(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the KL divergence of softmax(logits) [B, B] from targets [B, B], mean over rows."""
    return functional.kl_div(logits.log_softmax(dim=1), targets, reduction="batchmean")


def actionclip_kl(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ActionCLIP's loss of logits [B, B] (video to text): mean over both directions, for labels [B].

    Source: ActionCLIP (arXiv:2109.08472) section 3.2, with the factor 10 of the released code.
    """
    targets = label_targets(labels)
    return (kl_to_labels(logits, targets) + kl_to_labels(logits.T, targets)) / 2


def phrase_cross_entropy(video: Tensor, phrases: Tensor, targets: Tensor, *, scale: Tensor) -> Tensor:
    """Return the cross entropy of videos [B, D] among all phrases [K, D]."""
    logits = scale * functional.normalize(video, dim=-1) @ functional.normalize(phrases, dim=-1).T  # [B, K]
    return functional.cross_entropy(logits, targets)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the batch mean of -sum q log p for soft targets [B, K] (X-CLIP with mixup or cutmix)."""
    return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Return (1 - s) * nll + s * mean(-log p), X-CLIP's loss without mixing; labels [B]."""
    log_probabilities = logits.log_softmax(dim=-1)
    nll = -log_probabilities.gather(1, labels[:, None]).squeeze(1)
    return torch.mean((1 - smoothing) * nll - smoothing * log_probabilities.mean(dim=-1))
