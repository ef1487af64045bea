"""X-CLIP's prompt head: with every engine, its graph runs in this process, on batches of classes."""

import numpy as np

from serve.arrays import Float32Array
from serve.engines.worker import GraphWorker
from serve.features import VideoFeatures


class PromptHead:
    """Runs the graph of the prompt head in a thread."""

    def __init__(self, worker: GraphWorker, *, max_classes: int) -> None:
        self._worker = worker
        self._max_classes = max_classes

    async def start(self) -> None:
        """Load the graph.

        Raises:
            ContractError: the graph cannot be loaded, or its tensors differ from the contract.
        """
        await self._worker.start()

    async def logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        """Return the logits [V, K] of V views and K classes [K, D], scale included.

        Raises:
            EngineFailure: the runtime failed.
        """
        assert features.patch_features is not None, "models with a prompt head have patch features"
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
