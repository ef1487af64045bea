"""X-CLIP's prompt head: a graph that runs in this process with every engine, on batches of classes."""

import numpy as np

from serve.arrays import Float32Array
from serve.engines.worker import GraphWorker
from serve.features import VideoFeatures


class PromptHead:
    """The graph of the head, run in a thread."""

    def __init__(self, worker: GraphWorker, *, max_classes: int) -> None:
        self._worker = worker
        self._max_classes = max_classes

    async def start(self) -> None:
        """Load the graph.

        Raises:
            ContractError: the graph cannot be loaded or differs from the contract.
        """
        await self._worker.start()

    async def logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        """Compute logits [V, K], scale included, of V views and K classes [K, D]."""
        assert features.patch_features is not None, "only X-CLIP has a head, and its video graph gives patch features"
        inputs = {"video_features": features.video_features, "patch_features": features.patch_features}
        parts = [
            (await self._worker.run({**inputs, "text_features": text_features[start : start + self._max_classes]}))[
                "logits"
            ]
            for start in range(0, len(text_features), self._max_classes)
        ]
        return np.concatenate(parts, axis=1)

    async def close(self) -> None:
        """Release the graph."""
        await self._worker.close()
