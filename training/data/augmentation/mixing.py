"""MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899) of a batch of clips, as in X-CLIP.

Functions take sampled values as arguments; `Mixing` samples them. A box applies to all frames of a clip.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.data.augmentation.crops import CropBox
from training.data.augmentation.rngs import Rngs


def smoothed_targets(labels: Tensor, num_classes: int, *, smoothing: float) -> Tensor:
    """Convert labels [B] to targets [B, K]: s/K everywhere, plus 1 - s for the label."""
    return functional.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


def mixup(clips: Tensor, targets: Tensor, *, weight: float, order: Tensor) -> tuple[Tensor, Tensor]:
    """Blend clips [B, ...] and targets [B, K] with partners `order` [B]; `weight` is that of the original."""
    return (
        weight * clips + (1 - weight) * clips[order],
        weight * targets + (1 - weight) * targets[order],
    )


def cutmix(clips: Tensor, targets: Tensor, *, box: CropBox, order: Tensor) -> tuple[Tensor, Tensor]:
    """Paste a box of the partners into clips [B, T, 3, H, W]; mix targets [B, K] by the share of pixels."""
    height, width = clips.shape[-2:]
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    mixed = clips.clone()
    mixed[..., rows, columns] = clips[order][..., rows, columns]
    kept = 1 - box.width * box.height / (height * width)
    return mixed, kept * targets + (1 - kept) * targets[order]


def cutmix_box(height: int, width: int, *, weight: float, rngs: Rngs) -> CropBox:
    """Sample a box of about 1 - `weight` of the picture, clipped at its edges; advances `rngs.torch` twice, x first."""
    ratio = math.sqrt(1 - weight)
    across, down = int(width * ratio) // 2, int(height * ratio) // 2
    x = int(torch.randint(width, (1,), generator=rngs.torch))
    y = int(torch.randint(height, (1,), generator=rngs.torch))
    left, right = max(x - across, 0), min(x + across, width)
    top, bottom = max(y - down, 0), min(y + down, height)
    return CropBox(left=left, top=top, width=right - left, height=bottom - top)


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Options of MixUp and CutMix; defaults are X-CLIP's."""

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    cutmix_share: float = 0.5  # of batches
    smoothing: float = 0.1

    def __call__(self, clips: Tensor, labels: Tensor, *, num_classes: int, rngs: Rngs) -> tuple[Tensor, Tensor]:
        """Mix clips [B, T, 3, H, W] and labels [B]; return clips and soft targets [B, K]."""
        return self.mix(clips, smoothed_targets(labels, num_classes, smoothing=self.smoothing), rngs=rngs)

    def mix(self, clips: Tensor, targets: Tensor, *, rngs: Rngs) -> tuple[Tensor, Tensor]:
        """Mix clips [B, T, 3, H, W] and targets [B, K] with MixUp or CutMix.

        Weights are from NumPy's beta distribution; torch's, used by the original, differs between its versions.
        """
        is_cutmix = rngs.numpy.rand() < self.cutmix_share
        order = torch.randperm(len(clips), generator=rngs.torch)
        if is_cutmix:
            weight = rngs.numpy.beta(self.cutmix_alpha, self.cutmix_alpha)
            box = cutmix_box(clips.shape[-2], clips.shape[-1], weight=weight, rngs=rngs)
            return cutmix(clips, targets, box=box, order=order)
        return mixup(clips, targets, weight=rngs.numpy.beta(self.mixup_alpha, self.mixup_alpha), order=order)
