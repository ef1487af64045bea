"""The losses of ActionCLIP and X-CLIP, and cross entropy among phrases."""

import torch
from torch import Tensor
from torch.nn import functional

TARGET_SCALE = 10.0  # ActionCLIP's targets are the softmax of 10 times the label-equality matrix


def label_targets(labels: Tensor) -> Tensor:
    """Convert labels [B] to targets [B, B]: each row sums to one and is high at samples with the same label."""
    return (TARGET_SCALE * (labels[:, None] == labels[None, :]).float()).softmax(dim=1)


def kl_to_labels(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the KL divergence from softmax(logits) to the targets, both [B, B], averaged over rows."""
    return functional.kl_div(logits.log_softmax(dim=1), targets, reduction="batchmean")


def actionclip_kl(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ActionCLIP's loss of logits [B, B] (video to text) with labels [B], averaged over both directions.

    Source: ActionCLIP (arXiv:2109.08472) section 3.2; the factor 10 in the targets is from the released code.
    """
    targets = label_targets(labels)
    return (kl_to_labels(logits, targets) + kl_to_labels(logits.T, targets)) / 2


def phrase_cross_entropy(video: Tensor, phrases: Tensor, targets: Tensor, *, scale: Tensor) -> Tensor:
    """Return the cross entropy of video features [B, D] among phrase features [K, D], for targets [B] or [B, K]."""
    logits = scale * functional.normalize(video, dim=-1) @ functional.normalize(phrases, dim=-1).T  # [B, K]
    return functional.cross_entropy(logits, targets)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the batch mean of -sum q log p for soft targets [B, K] (X-CLIP with mixup or cutmix)."""
    return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Return (1 - s) * nll + s * mean(-log p) for logits [B, K], labels [B]; X-CLIP's loss without mixup or cutmix."""
    log_probabilities = logits.log_softmax(dim=-1)
    nll = -log_probabilities.gather(1, labels[:, None]).squeeze(1)
    return torch.mean((1 - smoothing) * nll - smoothing * log_probabilities.mean(dim=-1))
