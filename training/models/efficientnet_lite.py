"""EfficientNet-Lite (arXiv:1905.11946, the variant without squeeze-and-excite and with ReLU6) as a vision tower.

It has two outputs: a fixed matrix of class embeddings maps its class probabilities to a text space (ConSE,
arXiv:1312.5650), and its pooled features serve as prototype features. Batch normalisation is folded into the
convolutions, since the weights are not trained here; padding is TensorFlow's SAME, as the published weights need.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import VisionTower
from training.models.quantised import QuantisedLinear

STEM_CHANNELS, HEAD_CHANNELS = 32, 1280  # fixed in the Lite variants
CHANNEL_STEP = 8


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Blocks of one resolution: the first one has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)


class SameConv(nn.Module):
    """Convolution with TensorFlow's SAME padding for a known input size; an odd remainder is at the right and bottom.

    Weights are int8, except depthwise filters, which are few and most sensitive to rounding.
    """

    codes: Tensor

    def __init__(
        self, before: int, after: int, kernel: int, *, size: int, stride: int = 1, is_depthwise: bool = False
    ) -> None:
        super().__init__()
        self.stride, self.groups = stride, before if is_depthwise else 1
        self.output_size = math.ceil(size / stride)
        total = max((self.output_size - 1) * stride + kernel - size, 0)
        self.sides = [total // 2, total - total // 2] * 2
        shape = (after, before // self.groups, kernel, kernel)
        self.bias = nn.Parameter(torch.zeros(after))
        if is_depthwise:
            self.weight = nn.Parameter(torch.zeros(shape))
        else:
            self.register_buffer("codes", torch.zeros(shape, dtype=torch.int8))
            self.scale = nn.Parameter(torch.ones(after, 1, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        padded = functional.pad(maps, self.sides) if any(self.sides) else maps
        weight = self.codes.to(torch.float32) * self.scale if self.groups == 1 else self.weight
        return functional.conv2d(padded, weight, self.bias, self.stride, groups=self.groups)


class InvertedBlock(nn.Module):
    """Expansion, depthwise convolution, projection; with a residual connection if the shape is unchanged."""

    def __init__(self, before: int, after: int, *, kernel: int, stride: int, expansion: int, size: int) -> None:
        super().__init__()
        width = before * expansion
        self.expand = SameConv(before, width, 1, size=size) if expansion > 1 else None
        self.depthwise = SameConv(width, width, kernel, size=size, stride=stride, is_depthwise=True)
        self.project = SameConv(width, after, 1, size=self.depthwise.output_size)
        self.is_residual = stride == 1 and before == after

    def forward(self, maps: Tensor) -> Tensor:
        wide = maps if self.expand is None else functional.relu6(self.expand(maps))
        found: Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return maps + found if self.is_residual else found


class EfficientNetLite(nn.Module):
    """Frames [N, 3, S, S] -> pooled features [N, 1280]."""

    def __init__(self, *, image_size: int, width: float, depth: float) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_CHANNELS, 3, size=image_size, stride=2)
        blocks: list[nn.Module] = []
        before, size = STEM_CHANNELS, self.stem.output_size
        for place, stage in enumerate(STAGES):
            is_fixed = place in (0, len(STAGES) - 1)  # the Lite variants do not scale the depth of the outer stages
            repeats = stage.repeats if is_fixed else math.ceil(depth * stage.repeats)
            after = scaled_channels(stage.channels, width)
            for repeat in range(repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(
                    InvertedBlock(
                        before, after, kernel=stage.kernel, stride=stride, expansion=stage.expansion, size=size
                    )
                )
                before, size = after, math.ceil(size / stride)
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv(before, HEAD_CHANNELS, 1, size=size)

    def forward(self, frames: Tensor) -> Tensor:
        maps = self.blocks(functional.relu6(self.stem(frames)))  # [N, C, H, W]
        return functional.relu6(self.head(maps)).mean(dim=(2, 3))


def scaled_channels(channels: int, width: float) -> int:
    """Scale channels by the width multiplier to the nearest multiple of 8, at least 0.9 times the product."""
    wanted = channels * width
    rounded = max(CHANNEL_STEP, int(wanted + CHANNEL_STEP / 2) // CHANNEL_STEP * CHANNEL_STEP)
    return rounded + CHANNEL_STEP if rounded < 0.9 * wanted else rounded


class ConceptVision(VisionTower):
    """Frames [N, 3, S, S] -> points [N, D] in a text space, and pooled features [N, 1280].

    A point is the mean of class embeddings, weighted by the probabilities at `temperature` of the `classes_kept` most
    likely classes (ConSE, arXiv:1312.5650, equation 1). Prototype features are normalised before the mean over frames.
    """

    prototype_dim = HEAD_CHANNELS

    def __init__(
        self,
        *,
        image_size: int,
        width: float,
        depth: float,
        num_classes: int,
        classes_kept: int,
        temperature: float,
        embed_dim: int,
    ) -> None:
        super().__init__()
        self.image_size, self.embed_dim = image_size, embed_dim
        self.classes_kept, self.temperature = classes_kept, temperature
        self.features = EfficientNetLite(image_size=image_size, width=width, depth=depth)
        self.classifier = QuantisedLinear(HEAD_CHANNELS, num_classes)
        self.class_embeddings = nn.Parameter(torch.zeros(num_classes, embed_dim))

    def forward(self, frames: Tensor) -> Tensor:
        return self.with_prototypes(frames)[0]

    def with_prototypes(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.features(frames)  # [N, E]
        probabilities = torch.softmax(self.classifier(pooled) / self.temperature, dim=-1)  # [N, classes]
        least = probabilities.topk(self.classes_kept, dim=-1).values[:, -1:]
        kept = torch.where(probabilities >= least, probabilities, 0)
        weights = kept / kept.sum(dim=-1, keepdim=True)
        return weights @ self.class_embeddings, functional.normalize(pooled, dim=-1)
