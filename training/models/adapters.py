"""Low-rank adapters (LoRA, arXiv:2106.09685) for weight matrices of any model.

An adapter is a torch parametrization: the model computes with W + alpha / r * B A, without changes to its code and also
in packed attention weights. Merging the adapter gives a plain weight, which is what checkpoints store.
"""

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from training.models.base import ModelConfigError


class LowRank(nn.Module):
    """Adds a low-rank product, initially zero, times `alpha` / `rank` to a matrix."""

    def __init__(self, rows: int, columns: int, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, matrix: Tensor) -> Tensor:
        return matrix + self.scale * self.up @ self.down


def add_adapters_(model: nn.Module, patterns: Sequence[str], *, rank: int, alpha: float) -> list[str]:
    """Add an adapter to each matrix whose name matches a pattern, and freeze these matrices; return their names.

    Whether other weights are trained does not change.

    Raises:
        ModelConfigError: no matrix matches the patterns.
    """
    names = [
        name
        for name, item in model.named_parameters()
        if item.ndim == 2 and any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    if not names:
        raise ModelConfigError(f"model.lora.matrices: no matrix matches {' or '.join(patterns)}")
    for name in names:
        path, _, attribute = name.rpartition(".")
        owner = model.get_submodule(path)
        matrix = getattr(owner, attribute)
        adapter = LowRank(*matrix.shape, rank=rank, alpha=alpha).to(matrix)
        matrix.requires_grad_(False)
        parametrize.register_parametrization(owner, attribute, adapter)
    return names


def merge_adapters(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with adapters merged, with the names of a model without adapters."""
    weights = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in f".{name}"}
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for attribute in module.parametrizations:
                weights[f"{path}.{attribute}" if path else attribute] = getattr(module, attribute).detach()
    return weights
