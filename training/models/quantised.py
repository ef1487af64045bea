"""Layers whose weights are stored as int8 or 4-bit codes; computation is in float32.

Matrices have a scale per output. Embedding tables store two 4-bit codes per byte and have a scale and an offset per
row. Codes are buffers, so checkpoints and exported graphs contain them unchanged.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_CODE = 127  # of int8, symmetric
NUM_LEVELS = 16  # of 4-bit codes
MIN_SCALE = 1e-8


class QuantisedLinear(nn.Module):
    """Linear layer with int8 weights: [..., in] -> [..., out]."""

    codes: Tensor

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.scale = nn.Parameter(torch.ones(out_features, 1))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, values: Tensor) -> Tensor:
        return functional.linear(values, self.codes.to(torch.float32) * self.scale, self.bias)


class QuantisedTable(nn.Module):
    """Embedding table with 4-bit weights: indices [...] -> [..., W]; high half-bytes store the first W/2 columns."""

    codes: Tensor

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(num_rows, width // 2, dtype=torch.uint8))
        self.scale = nn.Parameter(torch.ones(num_rows, 1))
        self.offset = nn.Parameter(torch.zeros(num_rows, 1))

    def forward(self, indices: Tensor) -> Tensor:
        packed = functional.embedding(indices, self.codes).to(torch.float32)  # [..., W/2]
        high = torch.floor(packed / NUM_LEVELS)
        levels = torch.cat([high, packed - NUM_LEVELS * high], dim=-1)  # [..., W]
        return levels * functional.embedding(indices, self.scale) + functional.embedding(indices, self.offset)


def quantise_matrix_(layer: nn.Module, weight: Tensor) -> None:
    """Quantise weights [out, ...] into `codes` and `scale` of a layer; the largest weight of an output becomes 127."""
    rows = weight.flatten(1)
    scale = (rows.abs().amax(dim=1, keepdim=True) / MAX_CODE).clamp(min=MIN_SCALE).half().float()
    scale = torch.where(scale == 0, torch.tensor(MIN_SCALE), scale)
    shape = (-1, *[1] * (weight.ndim - 1))
    codes = (weight / scale.reshape(shape)).round().clamp(-MAX_CODE, MAX_CODE)
    layer.codes = codes.to(torch.int8)
    with torch.no_grad():
        layer.scale.copy_(scale.reshape(shape))  # type: ignore[operator]


def quantise_table_(table: QuantisedTable, rows: Tensor, *, levels: int, spread: float) -> None:
    """Quantise rows [V, W] into a table; levels cover `spread` standard deviations on both sides of a row's mean.

    With fewer than 16 levels, the file has the same size but compresses better.
    """
    mean, deviation = rows.mean(dim=1, keepdim=True), rows.std(dim=1, keepdim=True).clamp(min=MIN_SCALE)
    scale = (2 * spread * deviation / (levels - 1)).half().float().clamp(min=2**-24)
    offset = (mean - spread * deviation).half().float()
    codes = ((rows - offset) / scale).round().clamp(0, levels - 1).to(torch.uint8)
    high, low = codes.chunk(2, dim=1)
    table.codes = high * NUM_LEVELS + low
    with torch.no_grad():
        table.scale.copy_(scale)
        table.offset.copy_(offset)
