"""EfficientNet-Lite as a vision tower: EfficientNet (arXiv:1905.11946) without squeeze-and-excite, with ReLU6.

It has two outputs: a weighted mean of class embeddings in a text space (ConSE, arXiv:1312.5650), with the class
probabilities as weights, and the pooled features, which are used as prototype features. Batch normalisation is folded
into the convolutions, because these weights are not trained further. Padding is TensorFlow's SAME, for which the
published weights were trained.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import VisionTower
from training.models.quantised import QuantisedLinear

STEM_CHANNELS, HEAD_CHANNELS = 32, 1280  # not scaled in the Lite variants
CHANNEL_STEP = 8  # channels are multiples of it


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Blocks with the same number of channels; the stride applies to the first block."""

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
    """Convolution with TensorFlow's SAME padding for a fixed input size; odd padding is larger at the right and bottom.

    Weights are int8, except those of depthwise filters, which are few and most sensitive to rounding.
    """

    codes: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        size: int,
        stride: int = 1,
        is_depthwise: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.groups = stride, in_channels if is_depthwise else 1
        self.output_size = math.ceil(size / stride)
        padding = max((self.output_size - 1) * stride + kernel - size, 0)
        self.sides = [padding // 2, padding - padding // 2] * 2  # left, right, top, bottom
        shape = (out_channels, in_channels // self.groups, kernel, kernel)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if is_depthwise:
            self.weight = nn.Parameter(torch.zeros(shape))
        else:
            self.register_buffer("codes", torch.zeros(shape, dtype=torch.int8))
            self.scale = nn.Parameter(torch.ones(out_channels, 1, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        padded = functional.pad(maps, self.sides) if any(self.sides) else maps
        weight = self.codes.to(torch.float32) * self.scale if self.groups == 1 else self.weight
        return functional.conv2d(padded, weight, self.bias, self.stride, groups=self.groups)


class InvertedBlock(nn.Module):
    """Expansion, depthwise convolution and projection; with a residual connection if the shape does not change."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int, size: int
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand = SameConv(in_channels, width, 1, size=size) if expansion > 1 else None
        self.depthwise = SameConv(width, width, kernel, size=size, stride=stride, is_depthwise=True)
        self.project = SameConv(width, out_channels, 1, size=self.depthwise.output_size)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, maps: Tensor) -> Tensor:
        wide = maps if self.expand is None else functional.relu6(self.expand(maps))
        projected: Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return maps + projected if self.is_residual else projected


class EfficientNetLite(nn.Module):
    """Encodes frames [N, 3, S, S] into pooled features [N, 1280]."""

    def __init__(self, *, image_size: int, width: float, depth: float) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_CHANNELS, 3, size=image_size, stride=2)
        blocks: list[nn.Module] = []
        in_channels, size = STEM_CHANNELS, self.stem.output_size
        for index, stage in enumerate(STAGES):
            is_fixed = index in (0, len(STAGES) - 1)  # the Lite variants do not scale the first and the last stage
            repeats = stage.repeats if is_fixed else math.ceil(depth * stage.repeats)
            out_channels = scaled_channels(stage.channels, width)
            for repeat in range(repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(
                    InvertedBlock(
                        in_channels,
                        out_channels,
                        kernel=stage.kernel,
                        stride=stride,
                        expansion=stage.expansion,
                        size=size,
                    )
                )
                in_channels, size = out_channels, math.ceil(size / stride)
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv(in_channels, HEAD_CHANNELS, 1, size=size)

    def forward(self, frames: Tensor) -> Tensor:
        maps = self.blocks(functional.relu6(self.stem(frames)))  # [N, C, H, W]
        return functional.relu6(self.head(maps)).mean(dim=(2, 3))


def scaled_channels(channels: int, width: float) -> int:
    """Return channels times the width multiplier, rounded to a multiple of 8, but not below 0.9 times the product."""
    scaled = channels * width
    rounded = max(CHANNEL_STEP, int(scaled + CHANNEL_STEP / 2) // CHANNEL_STEP * CHANNEL_STEP)
    return rounded + CHANNEL_STEP if rounded < 0.9 * scaled else rounded


class ConceptVision(VisionTower):
    """Encodes frames [N, 3, S, S] into features [N, D] in a text space and prototype features [N, 1280].

    The features are the mean of the embeddings of the `classes_kept` most probable classes, weighted by their
    probabilities at `temperature` (ConSE, arXiv:1312.5650, equation 1). Prototype features are the normalised pooled
    features.
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
        return self.forward_with_prototype_features(frames)[0]

    def forward_with_prototype_features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.features(frames)  # [N, E]
        probabilities = torch.softmax(self.classifier(pooled) / self.temperature, dim=-1)  # [N, classes]
        threshold = probabilities.topk(self.classes_kept, dim=-1).values[:, -1:]
        top_probabilities = torch.where(probabilities >= threshold, probabilities, 0)
        weights = top_probabilities / top_probabilities.sum(dim=-1, keepdim=True)
        return weights @ self.class_embeddings, functional.normalize(pooled, dim=-1)
