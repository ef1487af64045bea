"""Engine that runs the graphs of one model version in the server's process, with onnxruntime or OpenVINO."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.batcher import MicroBatcher, Outputs
from serve.contract import ModelContract
from serve.engines.base import Session
from serve.engines.frames import EmbeddedFrameGraphs, has_frame_graphs
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
    """Runs one model version with one runtime; `name` tells the runtime and its precision."""

    def __init__(
        self,
        contract: ModelContract,
        repository: Path,
        *,
        engine_name: str,
        batch: BatchSettings,
        threads: int,
        cache_dir: Path,
    ) -> None:
        self.contract = contract
        self.name = engine_name
        self._batch = batch
        options: dict[str, Any] = {"engine_name": engine_name, "threads": threads, "cache_dir": cache_dir}
        video_lock = asyncio.Lock()  # the video graph and the frame graphs run one at a time
        self._workers = {
            "video": make_graph_worker("video", contract, repository, **options, lock=video_lock),
            "text": make_graph_worker("text", contract, repository, **options),
        }
        self.frame_graphs = (
            EmbeddedFrameGraphs(
                contract,
                repository,
                engine_name=engine_name,
                make_worker=lambda name: make_graph_worker(name, contract, repository, **options, lock=video_lock),
                run_whole_graph=self._run_video,
            )
            if has_frame_graphs(contract)
            else None
        )  # fmt: skip
        self._head = make_prompt_head(contract, repository, batch=batch, **options)
        self._batcher = MicroBatcher(
            self._run_video,
            max_rows=batch.max_views,
            max_delay_ms=batch.max_delay_ms,
            max_queued_rows=batch.max_queued_views,
        )

    @property
    def details(self) -> dict[str, str]:
        """Empty: the engine name already describes how the graphs run."""
        return {}

    @property
    def fault(self) -> str | None:
        """Always None, because graphs in this process cannot become unavailable."""
        return None

    @property
    def queued_views(self) -> int:
        """Number of views waiting for the video graph."""
        return self._batcher.queued_rows

    @property
    def batch_sizes(self) -> Mapping[int, int]:
        """Number of runs of the video graph since it was loaded, by the number of views in a run."""
        return self._batcher.batch_sizes

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
        """Do nothing, because there is no external server."""

    async def close(self) -> None:
        await self._batcher.close()
        if self.frame_graphs is not None:
            await self.frame_graphs.close()
        for worker in self._workers.values():
            await worker.close()
        if self._head is not None:
            await self._head.close()

    async def _warm_up(self) -> None:
        """Run each tower once, so that the first request is not slowed down by lazy initialisation."""
        size, num_segments = self.contract.preprocess.image_size, self.contract.sampling.num_segments
        await self._run_video(np.zeros((1, num_segments, 3, size, size), np.uint8))
        text = self.contract.text
        length = 2 if text.dynamic_length else text.context_length
        await self.encode_text(np.full((1, length), text.pad_id, np.int64))

    async def _run_video(self, views: NDArray[Any]) -> Outputs:
        return await self._workers["video"].run({"frames": np.ascontiguousarray(views)})


def make_graph_worker(
    name: str,
    contract: ModelContract,
    repository: Path,
    *,
    engine_name: str,
    threads: int,
    cache_dir: Path,
    lock: asyncio.Lock | None = None,
) -> GraphWorker:
    """Return a worker for a graph, with a runtime in this process; its `start` loads the graph."""
    graph = contract.graphs[name]
    path = repository / graph.file
    return GraphWorker(
        name, graph, lambda: SESSIONS[engine_name](path, engine_name, threads=threads, cache_dir=cache_dir), lock=lock
    )


def make_prompt_head(
    contract: ModelContract, repository: Path, *, engine_name: str, batch: BatchSettings, threads: int, cache_dir: Path
) -> PromptHead | None:
    """Return the prompt head, with a runtime in this process; None if the model family has none."""
    if not contract.has_prompt_head:
        return None
    worker = make_graph_worker(
        "head", contract, repository, engine_name=engine_name, threads=threads, cache_dir=cache_dir
    )
    return PromptHead(worker, max_classes=batch.max_head_classes)
