"""Engine in the server's process: the graphs of one version on onnxruntime or OpenVINO."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.batcher import MicroBatcher, Outputs
from serve.contract import ModelContract
from serve.engines.base import Session
from serve.engines.frames import EmbeddedFrameGraphs, has_halves
from serve.engines.head import PromptHead
from serve.engines.ort import OrtSession
from serve.engines.ov import OpenVinoSession
from serve.engines.worker import GraphWorker
from serve.features import VideoFeatures
from serve.settings import BatchSettings

SESSIONS: dict[str, Callable[..., Session]] = {
    "onnxruntime-cpu": OrtSession,
    "onnxruntime-cuda": OrtSession,
    "onnxruntime-tensorrt": OrtSession,
    "openvino-f32": OpenVinoSession,
    "openvino-bf16": OpenVinoSession,
}


class EmbeddedEngine:
    """One model version on one runtime; `label` names the runtime and its precision."""

    def __init__(
        self,
        contract: ModelContract,
        repository: Path,
        *,
        label: str,
        batch: BatchSettings,
        threads: int,
        cache_dir: Path,
    ) -> None:
        self.contract = contract
        self.label = label
        self._batch = batch
        here: dict[str, Any] = {"label": label, "threads": threads, "cache_dir": cache_dir}
        turn = asyncio.Lock()  # of the video graph and its halves
        self._workers = {
            "video": graph_worker("video", contract, repository, **here, turn=turn),
            "text": graph_worker("text", contract, repository, **here),
        }
        self.frame_graphs = (
            EmbeddedFrameGraphs(
                contract,
                repository,
                label=label,
                open_worker=lambda name: graph_worker(name, contract, repository, **here, turn=turn),
                whole=self._run_video,
            )
            if has_halves(contract)
            else None
        )  # fmt: skip
        self._head = embedded_head(contract, repository, label=label, batch=batch, threads=threads, cache_dir=cache_dir)
        self._batcher = MicroBatcher(
            self._run_video,
            max_rows=batch.max_views,
            max_delay_ms=batch.max_delay_ms,
            max_queued_rows=batch.max_queued_views,
        )

    @property
    def facts(self) -> dict[str, str]:
        """Empty: the label already says everything."""
        return {}

    @property
    def fault(self) -> str | None:
        """Always None: graphs in this process cannot become unavailable."""
        return None

    @property
    def queued_views(self) -> int:
        """Number of views waiting for the video graph."""
        return self._batcher.queued_rows

    @property
    def batches(self) -> tuple[int, int]:
        """(runs, views) of the video graph so far."""
        return self._batcher.num_batches, self._batcher.num_rows

    async def start(self) -> None:
        for worker in self._workers.values():
            await worker.start()
        if self._head is not None:
            await self._head.start()
        await self._warm_up()
        self._batcher.start()

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        batched = await self._batcher.submit(views, deadline=deadline)
        return VideoFeatures(
            video_features=batched.outputs["video_features"],
            patch_features=batched.outputs.get("patch_features"),
            prototype_features=batched.outputs.get("prototype_features"),
            queue_ms=1000 * batched.queue_seconds,
        )

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        return (await self._workers["text"].run({"tokens": tokens}))["text_features"]

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        assert self._head is not None, "only X-CLIP has a head"
        return await self._head.logits(features, text_features)

    async def unload(self) -> None:
        """Do nothing: no external server holds the version."""

    async def close(self) -> None:
        await self._batcher.close()
        if self.frame_graphs is not None:
            await self.frame_graphs.close()
        for worker in self._workers.values():
            await worker.close()
        if self._head is not None:
            await self._head.close()

    async def _warm_up(self) -> None:
        """Run each tower once, so that no request pays for lazy initialisation."""
        size, segments = self.contract.preprocess.image_size, self.contract.sampling.num_segments
        await self._run_video(np.zeros((1, segments, 3, size, size), np.uint8))
        text = self.contract.text
        length = 2 if text.dynamic_length else text.context_length
        await self.encode_text(np.full((1, length), text.pad_id, np.int64))

    async def _run_video(self, views: NDArray[Any]) -> Outputs:
        return await self._workers["video"].run({"frames": np.ascontiguousarray(views)})


def graph_worker(
    name: str,
    contract: ModelContract,
    repository: Path,
    *,
    label: str,
    threads: int,
    cache_dir: Path,
    turn: asyncio.Lock | None = None,
) -> GraphWorker:
    """Create the worker of a graph on a runtime of this process; `start` loads the graph."""
    graph = contract.graphs[name]
    path = repository / graph.file
    return GraphWorker(
        name, graph, lambda: SESSIONS[label](path, label, threads=threads, cache_dir=cache_dir), turn=turn
    )


def embedded_head(
    contract: ModelContract, repository: Path, *, label: str, batch: BatchSettings, threads: int, cache_dir: Path
) -> PromptHead | None:
    """Create the prompt head on a runtime of this process; None if the family has none."""
    if not contract.has_prompt_head:
        return None
    worker = graph_worker("head", contract, repository, label=label, threads=threads, cache_dir=cache_dir)
    return PromptHead(worker, max_classes=batch.max_head_classes)
