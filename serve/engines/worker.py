"""One graph in one thread: every call of a session comes from the thread that created it.

On CUDA, sessions shared by the threads of a pool have been reported to leak memory. On CPUs a graph already uses all
cores, so a second thread would gain nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve.arrays import Float32Array
from serve.contract import GraphContract
from serve.engines.base import Session
from serve.engines.signature import check_names, check_tensors


class GraphWorker:
    """Owns a session and its thread."""

    def __init__(
        self,
        name: str,
        graph: GraphContract,
        open_session: Callable[[], Session],
        *,
        beside: "GraphWorker | None" = None,
    ) -> None:
        """With `beside`, the graph runs in the thread of that worker, so that the two take turns."""
        self.name = name
        self.graph = graph
        self._open = open_session
        self._session: Session | None = None
        self._owns_thread = beside is None
        self._executor: ThreadPoolExecutor = (
            ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"graph-{name}")
            if beside is None
            else beside._executor
        )

    async def start(self) -> None:
        """Load the graph and compare its tensors with the contract.

        Raises:
            ContractError: the graph cannot be loaded, or its inputs and outputs differ from the contract.
        """
        self._session = await asyncio.get_running_loop().run_in_executor(self._executor, self._open)
        check_tensors(self.name, "input", self.graph.inputs, self._session.input_shapes())
        check_names(self.name, "output", self.graph.outputs, dict.fromkeys(self._session.output_names()))

    async def run(self, inputs: Mapping[str, Any]) -> dict[str, Float32Array]:
        """Run the graph once in the worker's thread; calls are queued."""
        assert self._session is not None, "start() comes first"
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._session.run, inputs)

    async def close(self) -> None:
        """Finish the current run and release the graph."""
        if self._owns_thread:
            await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)
        self._session = None
