"""Layers with weights stored in few bits; computation is in float32.

A matrix has one scale per output; a table packs two 4-bit codes in a byte, with a scale and an offset per row. Codes
are buffers, so checkpoints and graphs contain them unchanged.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

LARGEST_CODE = 127  # of int8, symmetric
CODES = 16  # of 4 bits
SMALLEST_SCALE = 1e-8


class QuantisedLinear(nn.Module):
    """x [..., in] -> x W^T + b [..., out], W in int8."""

    codes: Tensor

    def __init__(self, before: int, after: int, *, bias: bool = True) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(after, before, dtype=torch.int8))
        self.scale = nn.Parameter(torch.ones(after, 1))
        self.bias = nn.Parameter(torch.zeros(after)) if bias else None

    def forward(self, rows: Tensor) -> Tensor:
        return functional.linear(rows, self.codes.to(torch.float32) * self.scale, self.bias)


class QuantisedTable(nn.Module):
    """Embedding table, indices [...] -> [..., W]; the high half-bytes hold the first W/2 columns."""

    codes: Tensor

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(num_rows, width // 2, dtype=torch.uint8))
        self.scale = nn.Parameter(torch.ones(num_rows, 1))
        self.offset = nn.Parameter(torch.zeros(num_rows, 1))

    def forward(self, indices: Tensor) -> Tensor:
        packed = functional.embedding(indices, self.codes).to(torch.float32)  # [..., W/2]
        high = torch.floor(packed / CODES)
        levels = torch.cat([high, packed - CODES * high], dim=-1)  # [..., W]
        return levels * functional.embedding(indices, self.scale) + functional.embedding(indices, self.offset)


def quantise_matrix_(layer: nn.Module, weight: Tensor) -> None:
    """Quantise weights [out, ...] into `codes` and `scale` of a layer; the largest weight of an output has code 127."""
    rows = weight.flatten(1)
    scale = (rows.abs().amax(dim=1, keepdim=True) / LARGEST_CODE).clamp(min=SMALLEST_SCALE).half().float()
    scale = torch.where(scale == 0, torch.tensor(SMALLEST_SCALE), scale)
    shape = (-1, *[1] * (weight.ndim - 1))
    codes = (weight / scale.reshape(shape)).round().clamp(-LARGEST_CODE, LARGEST_CODE)
    layer.codes = codes.to(torch.int8)
    with torch.no_grad():
        layer.scale.copy_(scale.reshape(shape))  # type: ignore[operator]


def quantise_table_(table: QuantisedTable, rows: Tensor, *, levels: int, spread: float) -> None:
    """Quantise rows [V, W] into a table, with levels within `spread` deviations of a row's mean.

    Fewer than 16 levels only reduce the size of a compressed file.
    """
    mean, deviation = rows.mean(dim=1, keepdim=True), rows.std(dim=1, keepdim=True).clamp(min=SMALLEST_SCALE)
    scale = (2 * spread * deviation / (levels - 1)).half().float().clamp(min=2**-24)
    offset = (mean - spread * deviation).half().float()
    codes = ((rows - offset) / scale).round().clamp(0, levels - 1).to(torch.uint8)
    high, low = codes.chunk(2, dim=1)
    table.codes = high * CODES + low
    with torch.no_grad():
        table.scale.copy_(scale)
        table.offset.copy_(offset)
