"""The two halves of a frame-wise video graph: each frame is encoded once, and clips are fused from those.

They are loaded on first use, because only long videos need them, and compared with the whole graph on the parity clips.
They take turns with the whole graph, so an interactive request waits for at most one run of a long video.
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

HALVES = ("frames", "fusion")
Rows = Mapping[str, Float32Array]
RunClips = Callable[[UInt8Array], Awaitable[Rows]]


def has_halves(contract: ModelContract) -> bool:
    """Return whether the version holds both halves."""
    return contract.graphs.keys() >= set(HALVES)


class EmbeddedFrameGraphs:
    """Encodes single frames and fuses clips from them, on a runtime of this process."""

    def __init__(
        self,
        contract: ModelContract,
        repository: Path,
        *,
        label: str,
        open_worker: Callable[[str], GraphWorker],
        whole: RunClips,
    ) -> None:
        self._contract = contract
        self._parity_file = repository / contract.parity_file.file
        self._label = label
        self._open_worker = open_worker
        self._whole = whole
        self._workers: dict[str, GraphWorker] = {}
        self._loading = asyncio.Lock()

    async def encode(self, frames: UInt8Array) -> Rows:
        workers = await self._loaded()
        return await workers["frames"].run({"frames": np.ascontiguousarray(frames)})

    async def fuse(self, rows: Rows) -> VideoFeatures:
        return _features(await (await self._loaded())["fusion"].run(rows))

    async def close(self) -> None:
        """Release the graphs."""
        for worker in self._workers.values():
            await worker.close()

    async def _loaded(self) -> Mapping[str, GraphWorker]:
        async with self._loading:
            if not self._workers:
                workers = {name: self._open_worker(name) for name in HALVES}
                try:
                    for worker in workers.values():
                        await worker.start()
                    await self._compare(workers)
                except BaseException:
                    for worker in workers.values():
                        await worker.close()
                    raise
                self._workers = workers
        return self._workers

    async def _compare(self, workers: Mapping[str, GraphWorker]) -> None:
        """Compare the halves with the whole graph on the parity clips.

        Raises:
            ContractError: they differ by more than the precision of the engine explains.
        """
        with np.load(self._parity_file, allow_pickle=False) as stored:
            clips: UInt8Array = stored["frames"]  # [n, T, 3, S, S]
        single = await workers["frames"].run({"frames": clips.reshape(-1, *clips.shape[2:])})
        fused = await workers["fusion"].run({name: rows.reshape(*clips.shape[:2], -1) for name, rows in single.items()})
        expected = await self._whole(clips)
        for name, rows in fused.items():
            figures = compare(rows, expected[name])
            is_close = (
                figures.lowest_cosine >= HALF_PRECISION_COSINE
                if self._label in HALF_PRECISION
                else figures.relative_difference <= FULL_PRECISION_TOLERANCE
            )
            if not is_close:
                raise ContractError(
                    f"{self._contract.name}@{self._contract.version} on {self._label}: {name} through frames and "
                    f"fusion differs from the whole graph, lowest cosine {figures.lowest_cosine:.5f}",
                    field="graphs",
                )


def _features(rows: Rows) -> VideoFeatures:
    return VideoFeatures(
        video_features=rows["video_features"],
        patch_features=rows.get("patch_features"),
        prototype_features=rows.get("prototype_features"),
    )
