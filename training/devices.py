"""What a process computes on, and in which precision."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from training.config import ConfigError

Precision = Literal["fp32", "bf16"]


def device_named(name: str, *, key: str) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one, `cuda` that of this process among those of its machine.

    Raises:
        ConfigError: there is none such; the message begins with `key`.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"{key}: {name} is asked for, and torch finds no GPU")
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


def computing_in(precision: Precision, device: torch.device, *, key: str) -> Callable[[], AbstractContextManager[Any]]:
    """What forward passes run in; weights stay fp32.

    Raises:
        ConfigError: bf16 without a GPU; the message begins with `key`.
    """
    if precision == "fp32":
        return nullcontext
    if device.type != "cuda":
        raise ConfigError(f"{key}: bf16 needs a GPU; on a processor it is many times slower than fp32")
    return lambda: torch.autocast(device.type, torch.bfloat16)
