"""Features of videos, and their layout as one row on disk."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from serve.arrays import Float32Array
from serve.contract import ModelContract


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """Features of V views; those that may be None are there where the contract's video graph gives them."""

    video_features: Float32Array  # [V, D]
    patch_features: Float32Array | None = None  # [V, P, D]
    prototype_features: Float32Array | None = None  # [V, E]
    queue_ms: float = 0.0  # of the time it took, spent waiting for a turn

    @property
    def for_prototypes(self) -> Float32Array:
        """What example clips are compared by: prototype features [V, E], or video features [V, D] without."""
        return self.video_features if self.prototype_features is None else self.prototype_features


@dataclass(frozen=True, kw_only=True)
class RowLayout:
    """Where the parts of a kept row lie: video features [D], patch features [P*D], prototype features [E].

    Each of the last two only where the model's video graph gives it.
    """

    embed_dim: int  # D
    num_patches: int = 0  # P
    prototype_dim: int = 0  # E

    @classmethod
    def of(cls, contract: ModelContract) -> Self:
        """The layout of a served model."""
        return cls(embed_dim=contract.embed_dim, num_patches=contract.num_patches, prototype_dim=contract.prototype_dim)

    @property
    def width(self) -> int:
        """Length of a row: D + P*D + E."""
        return self.embed_dim * (1 + self.num_patches) + self.prototype_dim

    def row(self, features: VideoFeatures) -> Float32Array:
        """The row of a clip of one view."""
        parts = (features.video_features, features.patch_features, features.prototype_features)
        return np.concatenate([part.ravel() for part in parts if part is not None]).astype(np.float32)

    def features(self, rows: Float32Array) -> VideoFeatures:
        """Rows [N, D + P*D + E] -> features of N views."""
        video, patches, prototypes = np.split(rows, (self.embed_dim, self.embed_dim * (1 + self.num_patches)), axis=1)
        return VideoFeatures(
            video_features=video,
            patch_features=patches.reshape(len(rows), self.num_patches, -1) if self.num_patches else None,
            prototype_features=prototypes if self.prototype_dim else None,
        )
