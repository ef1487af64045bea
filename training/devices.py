"""Select the device and the precision of a process."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from training.config import ConfigError

Precision = Literal["fp32", "bf16"]


def select_device(name: str, *, key: str) -> torch.device:
    """Return the device with a name; `auto` prefers a GPU, `cuda` is the GPU of this process's local rank.

    Raises:
        ConfigError: the device does not exist; the message begins with `key`.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"{key}: {name} was requested, but torch finds no GPU")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def autocast_context(
    precision: Precision, device: torch.device, *, key: str
) -> Callable[[], AbstractContextManager[Any]]:
    """Return a function that creates the autocast context of a forward pass; weights stay fp32.

    Raises:
        ConfigError: bf16 was requested without a GPU; the message begins with `key`.
    """
    if precision == "fp32":
        return nullcontext
    if device.type != "cuda":
        raise ConfigError(f"{key}: bf16 requires a GPU; on a CPU it is many times slower than fp32")
    return lambda: torch.autocast(device.type, torch.bfloat16)
