"""Check the tensors of a loaded graph against its contract."""

from collections.abc import Mapping, Sequence
from typing import Literal

from serve.contract import TensorContract
from serve.errors import ContractError

Shape = tuple[int | None, ...]  # None: a dynamic axis


def check_tensors(
    graph: str,
    kind: Literal["input", "output"],
    expected: Sequence[TensorContract],
    found: Mapping[str, tuple[str, Shape]],
) -> None:
    """Compare name, dtype and axes of the contract's tensors with `found` (name -> numpy dtype name, shape).

    Axes agree if both are dynamic or both have the same size.

    Raises:
        ContractError: names the graph, the tensor, what was expected and what was found.
    """
    check_names(graph, kind, expected, found)
    for tensor in expected:
        dtype, shape = found[tensor.name]
        fixed = tuple(axis if isinstance(axis, int) else None for axis in tensor.axes)
        if dtype != tensor.dtype or shape != fixed:
            raise ContractError(
                f"{graph} graph, {kind} {tensor.name}: "
                f"expected {tensor.dtype} {list(tensor.axes)}, found {dtype} {list(shape)}",
                field=f"graphs.{graph}",
            )


def check_names(
    graph: str, kind: Literal["input", "output"], expected: Sequence[TensorContract], found: Mapping[str, object]
) -> None:
    """Check only the names, for runtimes that report nothing else.

    Raises:
        ContractError: names the graph, the tensor and what was found.
    """
    for tensor in expected:
        if tensor.name not in found:
            raise ContractError(
                f"{graph} graph: expected an {kind} {tensor.name}, found {', '.join(sorted(found)) or 'none'}",
                field=f"graphs.{graph}",
            )
