"""One graph behind one thread: every call of a session comes from the thread that made it.

A session shared by the threads of a pool has been reported to grow its memory without end on CUDA, and a graph uses all
cores by itself; a second thread would only share them.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve.arrays import Float32Array
from serve.contract import GraphContract
from serve.engines.base import Session
from serve.errors import ContractError


class GraphWorker:
    """Owns a session and its thread."""

    def __init__(self, name: str, graph: GraphContract, open_session: Callable[[], Session]) -> None:
        self.name = name
        self.graph = graph
        self._open = open_session
        self._session: Session | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"graph-{name}")

    async def start(self) -> None:
        """Load the graph and compare its tensors with the contract.

        Raises:
            ContractError: it cannot be loaded, or its inputs and outputs are not those of the contract.
        """
        self._session = await asyncio.get_running_loop().run_in_executor(self._executor, self._open)
        check_tensors(self.name, self.graph, self._session)

    async def run(self, inputs: Mapping[str, Any]) -> dict[str, Float32Array]:
        """Run once in the worker's thread; callers take turns."""
        assert self._session is not None, "start() comes first"
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._session.run, inputs)

    async def close(self) -> None:
        """Finish the run under way and release the graph."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)
        self._session = None


def check_tensors(name: str, graph: GraphContract, session: Session) -> None:
    """Compare the loaded graph's tensors with the contract's.

    Raises:
        ContractError: names the graph, the tensor, what was expected and what was found.
    """
    found = session.input_shapes()
    for tensor in graph.inputs:
        if tensor.name not in found:
            raise ContractError(f"{name} graph: expected an input {tensor.name}, found {', '.join(sorted(found))}")
        dtype, shape = found[tensor.name]
        fixed = tuple(axis if isinstance(axis, int) else None for axis in tensor.axes)
        if dtype != tensor.dtype or len(shape) != len(fixed) or not _agree(fixed, shape):
            raise ContractError(
                f"{name} graph, input {tensor.name}: "
                f"expected {tensor.dtype} {list(tensor.axes)}, found {dtype} {list(shape)}"
            )
    outputs = set(session.output_names())
    for tensor in graph.outputs:
        if tensor.name not in outputs:
            raise ContractError(f"{name} graph: expected an output {tensor.name}, found {', '.join(sorted(outputs))}")


def _agree(expected: tuple[int | None, ...], found: tuple[int | None, ...]) -> bool:
    """Axes agree when a dynamic one is dynamic and a fixed one has its size."""
    return all(a == b for a, b in zip(expected, found, strict=True))
