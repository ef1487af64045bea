"""Freezing of weights and activation checkpointing."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import nn

from training.models.base import ModelConfigError
from training.models.clip import Blocks


def freeze_(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the weights whose names match a pattern such as `text.*`.

    Raises:
        ModelConfigError: a pattern matches no weight.
    """
    for pattern in patterns:
        matching = [item for name, item in model.named_parameters() if fnmatchcase(name, pattern)]
        if not matching:
            raise ModelConfigError(f"model.frozen: no weight matches {pattern}")
        for item in matching:
            item.requires_grad_(False)


def checkpoint_activations_(model: nn.Module) -> None:
    """Set up activation checkpointing: blocks are recomputed in the backward pass, which saves memory.

    Raises:
        ModelConfigError: the towers do not support it.
    """
    count = 0
    for module in model.modules():
        if isinstance(module, Blocks):
            module.is_checkpointed, count = True, count + 1
        elif hasattr(module, "set_grad_checkpointing"):  # towers of open_clip and timm
            cast(Any, module).set_grad_checkpointing(True)
            count += 1
    if not count:
        raise ModelConfigError("model.checkpointing: the towers do not support activation checkpointing")
