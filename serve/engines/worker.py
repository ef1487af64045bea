"""Run one graph in one thread: all calls of a session are made by the thread that created it.

On CUDA, sessions that are shared by the threads of a pool have been reported to leak memory. On CPUs a graph already
uses all cores, so a second thread would not be faster.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
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
        lock: asyncio.Lock | None = None,
    ) -> None:
        """Graphs that share a `lock` run one at a time, in the order of their calls; loading does not use the lock."""
        self.name = name
        self.graph = graph
        self._open = open_session
        self._session: Session | None = None
        self._lock = nullcontext() if lock is None else lock
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"graph-{name}")

    async def start(self) -> None:
        """Load the graph and compare its tensors with the contract.

        Raises:
            ContractError: the graph cannot be loaded, or its inputs and outputs differ from the contract.
        """
        self._session = await asyncio.get_running_loop().run_in_executor(self._executor, self._open)
        check_tensors(self.name, "input", self.graph.inputs, self._session.input_shapes())
        check_names(self.name, "output", self.graph.outputs, dict.fromkeys(self._session.output_names()))

    async def run(self, inputs: Mapping[str, Any]) -> dict[str, Float32Array]:
        """Run the graph once in the worker's thread; concurrent calls are queued.

        Raises:
            EngineFailure: the runtime failed.
        """
        assert self._session is not None, "call start() first"
        async with self._lock:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._session.run, inputs)

    async def close(self) -> None:
        """Finish the current run and release the graph."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)
        self._session = None
