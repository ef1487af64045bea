"""Check for NaN and infinity: losses and gradients before an optimiser step, weights after it.

A check reads each value once, which is cheap compared with forward and backward passes. If a check fails, the forward
pass is repeated to find the first module with a non-finite output.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

MAX_SHOWN_NAMES = 4  # in a message


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether no tensor contains NaN or infinity; integers are always finite.

    >>> are_finite([torch.ones(2), torch.tensor([1])]), are_finite([torch.tensor([1.0, float("nan")])])
    (True, False)
    """
    floats = [item.detach() for item in tensors if item.is_floating_point() and item.numel()]
    return not floats or bool(torch.isfinite(get_total_norm(floats, norm_type=math.inf)))  # the largest magnitude


def non_finite_names(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that contain NaN or infinity, in order.

    >>> non_finite_names({"a": torch.ones(1), "b": torch.tensor(float("inf"))})
    ['b']
    """
    if are_finite(tensors.values()):
        return []
    return [name for name, item in tensors.items() if not are_finite([item])]


def shortened(names: Sequence[str]) -> str:
    """Join names for a message; if there are many, only the first ones are included.

    >>> shortened(["a", "b"]), shortened(list("abcdef"))
    ('a, b', 'a, b, c, d and 2 more')
    """
    rest = len(names) - MAX_SHOWN_NAMES
    return ", ".join(names[:MAX_SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the norm of all gradients as a scalar; it is not finite if a gradient is not, or if squares overflow."""
    return get_total_norm([item.grad for item in parameters if item.grad is not None])


def first_non_finite_output(
    model: nn.Module, run: Callable[[], Any], *, context: Callable[[], AbstractContextManager[Any]]
) -> str | None:
    """Repeat a forward pass; return the name of the first module with a non-finite output, or None.

    `run` is the forward pass, and `context` creates the context in which it runs.
    """
    names: list[str] = []

    def hook_of(name: str) -> Callable[..., None]:
        def check(module: nn.Module, inputs: Any, output: Any) -> None:
            if not names and not are_finite(_collect_tensors(output)):
                names.append(name or type(module).__name__)

        return check

    handles = [part.register_forward_hook(hook_of(name)) for name, part in model.named_modules()]
    try:
        with torch.no_grad(), context():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return names[0] if names else None


def _collect_tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a module's output, which may be a tuple, a list or a mapping."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in _collect_tensors(item)]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in _collect_tensors(item)]
    return []
