"""Check the tensors of a loaded graph against the contract."""

from collections.abc import Mapping, Sequence
from typing import Literal

from serve.contract import TensorContract
from serve.errors import ContractError

Shape = tuple[int | None, ...]  # None: a dynamic axis


def check_tensors(
    graph: str,
    kind: Literal["input", "output"],
    expected: Sequence[TensorContract],
    actual: Mapping[str, tuple[str, Shape]],
) -> None:
    """Compare the contract's tensors with `actual`, which maps tensor names to (NumPy dtype name, shape).

    Axes agree if both are dynamic or both have the same size.

    Raises:
        ContractError: a tensor is missing, or its dtype or shape differs.
    """
    check_names(graph, kind, expected, actual)
    for tensor in expected:
        dtype, shape = actual[tensor.name]
        expected_shape = tuple(axis if isinstance(axis, int) else None for axis in tensor.axes)
        if dtype != tensor.dtype or shape != expected_shape:
            raise ContractError(
                f"{graph} graph, {kind} {tensor.name}: "
                f"expected {tensor.dtype} {list(tensor.axes)}, got {dtype} {list(shape)}",
                field=f"graphs.{graph}",
            )


def check_names(
    graph: str, kind: Literal["input", "output"], expected: Sequence[TensorContract], actual: Mapping[str, object]
) -> None:
    """Check that all tensors of the contract are among the names in `actual`.

    Raises:
        ContractError: a tensor is missing.
    """
    for tensor in expected:
        if tensor.name not in actual:
            raise ContractError(
                f"{graph} graph: expected an {kind} {tensor.name}, got {', '.join(sorted(actual)) or 'none'}",
                field=f"graphs.{graph}",
            )
