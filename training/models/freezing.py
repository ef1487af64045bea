"""Frozen weights and activation checkpointing."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import nn

from training.models.base import ModelConfigError
from training.models.clip import Blocks


def freeze_(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze weights whose names match a pattern (`text.*`).

    Raises:
        ModelConfigError: a pattern matches nothing.
    """
    for pattern in patterns:
        found = [item for name, item in model.named_parameters() if fnmatchcase(name, pattern)]
        if not found:
            raise ModelConfigError(f"model.frozen: no weight matches {pattern}")
        for item in found:
            item.requires_grad_(False)


def checkpoint_activations_(model: nn.Module) -> None:
    """Recompute each block in the backward pass, to save memory.

    Raises:
        ModelConfigError: the model has no blocks that support it.
    """
    count = 0
    for part in model.modules():
        if isinstance(part, Blocks):
            part.is_checkpointed, count = True, count + 1
        elif hasattr(part, "set_grad_checkpointing"):  # towers of open_clip and timm
            cast(Any, part).set_grad_checkpointing(True)
            count += 1
    if not count:
        raise ModelConfigError("model.checkpointing: these towers do not support it")
