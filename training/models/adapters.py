"""Low-rank adapters (LoRA, arXiv:2106.09685) for the matrices of any model.

An adapter is a torch parametrization: the model computes with W + alpha / r B A without changes to its code, also for
packed attention weights. Merging gives the plain weight, which checkpoints store.
"""

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from training.models.base import ModelConfigError


class LowRank(nn.Module):
    """A matrix plus `scale` times a low-rank product, which is initially zero."""

    def __init__(self, rows: int, columns: int, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, matrix: Tensor) -> Tensor:
        return matrix + self.scale * self.up @ self.down


def add_adapters_(model: nn.Module, patterns: Sequence[str], *, rank: int, alpha: float) -> list[str]:
    """Add adapters to each matrix whose name matches a pattern, and freeze these matrices.

    Returns the names. Other weights stay trainable or frozen as before.

    Raises:
        ModelConfigError: no matrix matches.
    """
    chosen = [
        name
        for name, item in model.named_parameters()
        if item.ndim == 2 and any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    if not chosen:
        raise ModelConfigError(f"model.lora.matrices: no matrix matches {' or '.join(patterns)}")
    for name in chosen:
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        matrix = getattr(owner, leaf)
        adapter = LowRank(*matrix.shape, rank=rank, alpha=alpha).to(matrix)
        matrix.requires_grad_(False)
        parametrize.register_parametrization(owner, leaf, adapter)
    return chosen


def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with merged adapters, under the names of a model without adapters."""
    kept = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in f".{name}"}
    for path, part in model.named_modules():
        if parametrize.is_parametrized(part):
            for leaf in part.parametrizations:
                kept[f"{path}.{leaf}" if path else leaf] = getattr(part, leaf).detach()
    return kept
