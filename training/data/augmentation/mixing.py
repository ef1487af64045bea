"""MixUp (arXiv:1710.09412) and CutMix (arXiv:1905.04899) of a batch of clips, as in X-CLIP.

The functions take random values as arguments; `Mixing` samples these values. A box applies to all frames of a clip.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.data.augmentation.crops import CropBox
from training.data.augmentation.rngs import Rngs


def smoothed_targets(labels: Tensor, num_classes: int, *, smoothing: float) -> Tensor:
    """Convert labels [B] to targets [B, K] with label smoothing s: s/K for every class, plus 1 - s for the label."""
    return functional.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


def mixup(clips: Tensor, targets: Tensor, *, weight: float, permutation: Tensor) -> tuple[Tensor, Tensor]:
    """Blend each clip [B, ...] and target [B, K] with the one at index `permutation[i]`.

    `weight` is the share of the clip itself (lambda in the paper), 1 - `weight` that of the other clip.
    """
    return (
        weight * clips + (1 - weight) * clips[permutation],
        weight * targets + (1 - weight) * targets[permutation],
    )


def cutmix(clips: Tensor, targets: Tensor, *, box: CropBox, permutation: Tensor) -> tuple[Tensor, Tensor]:
    """Replace a box in each clip [B, T, 3, H, W] by the same box of the clip at index `permutation[i]`.

    Targets [B, K] are mixed in proportion to the number of pixels.
    """
    height, width = clips.shape[-2:]
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    mixed = clips.clone()
    mixed[..., rows, columns] = clips[permutation][..., rows, columns]
    weight = 1 - box.width * box.height / (height * width)
    return mixed, weight * targets + (1 - weight) * targets[permutation]


def cutmix_box(height: int, width: int, *, weight: float, rngs: Rngs) -> CropBox:
    """Sample a box with a uniformly distributed centre and 1 - `weight` of the frame's area, clipped at the edges.

    Advances `rngs.torch` twice: first for x, then for y.
    """
    ratio = math.sqrt(1 - weight)
    half_width, half_height = int(width * ratio) // 2, int(height * ratio) // 2
    x = int(torch.randint(width, (1,), generator=rngs.torch))
    y = int(torch.randint(height, (1,), generator=rngs.torch))
    left, right = max(x - half_width, 0), min(x + half_width, width)
    top, bottom = max(y - half_height, 0), min(y + half_height, height)
    return CropBox(left=left, top=top, width=right - left, height=bottom - top)


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Apply MixUp or CutMix to batches; the defaults are X-CLIP's."""

    mixup_alpha: float = 0.8  # parameter of the beta distribution
    cutmix_alpha: float = 1.0
    cutmix_probability: float = 0.5  # of applying CutMix, not MixUp, to a batch
    smoothing: float = 0.1  # label smoothing

    def __call__(self, clips: Tensor, labels: Tensor, *, num_classes: int, rngs: Rngs) -> tuple[Tensor, Tensor]:
        """Mix clips [B, T, 3, H, W] and labels [B]; return clips and soft targets [B, K]."""
        return self.mix(clips, smoothed_targets(labels, num_classes, smoothing=self.smoothing), rngs=rngs)

    def mix(self, clips: Tensor, targets: Tensor, *, rngs: Rngs) -> tuple[Tensor, Tensor]:
        """Mix clips [B, T, 3, H, W] and targets [B, K] with MixUp or CutMix.

        Mixing weights are sampled with NumPy. X-CLIP's code samples them with torch, whose beta distribution returns
        different values in different versions of torch.
        """
        is_cutmix = rngs.numpy.rand() < self.cutmix_probability
        permutation = torch.randperm(len(clips), generator=rngs.torch)
        if is_cutmix:
            weight = rngs.numpy.beta(self.cutmix_alpha, self.cutmix_alpha)
            box = cutmix_box(clips.shape[-2], clips.shape[-1], weight=weight, rngs=rngs)
            return cutmix(clips, targets, box=box, permutation=permutation)
        weight = rngs.numpy.beta(self.mixup_alpha, self.mixup_alpha)
        return mixup(clips, targets, weight=weight, permutation=permutation)
