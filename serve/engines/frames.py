"""A frame-wise video graph split into two graphs: one encodes single frames, the other fuses frames into clips.

Both are loaded on first use, because only long videos need them. Their results are compared with the whole graph on the
parity clips. They share a lock with the whole graph, so an interactive request waits for at most one of their runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import numpy as np

from serve.arrays import Float32Array, UInt8Array
from serve.contract import ModelContract
from serve.engines.worker import GraphWorker
from serve.errors import ContractError
from serve.features import VideoFeatures
from serve.parity import FULL_PRECISION_TOLERANCE, HALF_PRECISION, HALF_PRECISION_COSINE, compare

FRAME_GRAPHS = ("frames", "fusion")
Tensors = Mapping[str, Float32Array]  # by tensor name
RunClips = Callable[[UInt8Array], Awaitable[Tensors]]


def has_frame_graphs(contract: ModelContract) -> bool:
    """Return whether the model version contains both frame graphs."""
    return contract.graphs.keys() >= set(FRAME_GRAPHS)


class EmbeddedFrameGraphs:
    """Runs the frame graphs with a runtime in this process."""

    def __init__(
        self,
        contract: ModelContract,
        repository: Path,
        *,
        engine_name: str,
        make_worker: Callable[[str], GraphWorker],
        run_whole_graph: RunClips,
    ) -> None:
        self._contract = contract
        self._parity_file = repository / contract.parity_file.file
        self._engine_name = engine_name
        self._make_worker = make_worker
        self._run_whole_graph = run_whole_graph
        self._workers: dict[str, GraphWorker] = {}
        self._load_lock = asyncio.Lock()

    async def encode(self, frames: UInt8Array) -> Tensors:
        workers = await self._load()
        return await workers["frames"].run({"frames": np.ascontiguousarray(frames)})

    async def fuse(self, frame_features: Tensors) -> VideoFeatures:
        workers = await self._load()
        return _to_video_features(await workers["fusion"].run(frame_features))

    async def close(self) -> None:
        """Release the graphs."""
        for worker in self._workers.values():
            await worker.close()

    async def _load(self) -> Mapping[str, GraphWorker]:
        """Return the workers; on first use, load the graphs and check their parity."""
        async with self._load_lock:
            if not self._workers:
                workers = {name: self._make_worker(name) for name in FRAME_GRAPHS}
                try:
                    for worker in workers.values():
                        await worker.start()
                    await self._check_parity(workers)
                except BaseException:
                    for worker in workers.values():
                        await worker.close()
                    raise
                self._workers = workers
        return self._workers

    async def _check_parity(self, workers: Mapping[str, GraphWorker]) -> None:
        """Compare the results of the frame graphs with the whole graph on the parity clips.

        Raises:
            ContractError: the difference exceeds the tolerance for the precision of the engine.
        """
        with np.load(self._parity_file, allow_pickle=False) as stored:
            clips: UInt8Array = stored["frames"]  # [n, T, 3, S, S]
        encoded = await workers["frames"].run({"frames": clips.reshape(-1, *clips.shape[2:])})
        fused = await workers["fusion"].run(
            {name: values.reshape(*clips.shape[:2], -1) for name, values in encoded.items()}
        )
        expected = await self._run_whole_graph(clips)
        for name, values in fused.items():
            comparison = compare(values, expected[name])
            is_close = (
                comparison.lowest_cosine >= HALF_PRECISION_COSINE
                if self._engine_name in HALF_PRECISION
                else comparison.relative_difference <= FULL_PRECISION_TOLERANCE
            )
            if not is_close:
                raise ContractError(
                    f"{self._contract.name}@{self._contract.version} on {self._engine_name}: {name} computed by the "
                    f"graphs frames and fusion differs from the whole video graph "
                    f"(lowest cosine similarity {comparison.lowest_cosine:.5f}); export the model again",
                    field="graphs",
                )


def _to_video_features(outputs: Tensors) -> VideoFeatures:
    return VideoFeatures(
        video_features=outputs["video_features"],
        patch_features=outputs.get("patch_features"),
        prototype_features=outputs.get("prototype_features"),
    )
