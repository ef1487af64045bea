"""Features of videos, and their layout in one cached vector."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from serve.arrays import Float32Array
from serve.contract import ModelContract


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """Features of V views; optional features are None if the model's video graph does not compute them."""

    video_features: Float32Array  # [V, D]
    patch_features: Float32Array | None = None  # [V, P, D]
    prototype_features: Float32Array | None = None  # [V, E]
    queue_ms: float = 0.0  # time spent in the queue of the engine

    @property
    def num_bytes(self) -> int:
        """Size of the arrays in memory."""
        return sum(part.nbytes for part in self._arrays if part is not None)

    def rows(self, start: int, stop: int) -> "VideoFeatures":
        """Return the features of the views from `start` to before `stop`."""
        video, patches, prototypes = (None if part is None else part[start:stop] for part in self._arrays)
        assert video is not None, "the field is not optional"
        return VideoFeatures(video_features=video, patch_features=patches, prototype_features=prototypes)

    @property
    def _arrays(self) -> tuple[Float32Array | None, ...]:
        return self.video_features, self.patch_features, self.prototype_features

    @property
    def prototype_or_video_features(self) -> Float32Array:
        """Features compared with example clips: prototype features [V, E] if present, else video features [V, D]."""
        return self.video_features if self.prototype_features is None else self.prototype_features


@dataclass(frozen=True, kw_only=True)
class FeatureLayout:
    """Layout of the features of one view in a vector: video features [D], patch features [P*D], prototype features [E].

    The last two parts are empty if the model's video graph does not compute them.
    """

    embed_dim: int  # D
    num_patches: int = 0  # P
    prototype_dim: int = 0  # E

    @classmethod
    def of_contract(cls, contract: ModelContract) -> Self:
        """Return the layout for the features of an exported model."""
        return cls(embed_dim=contract.embed_dim, num_patches=contract.num_patches, prototype_dim=contract.prototype_dim)

    @property
    def width(self) -> int:
        """Length of a vector: D + P*D + E."""
        return self.embed_dim * (1 + self.num_patches) + self.prototype_dim

    def pack(self, features: VideoFeatures) -> Float32Array:
        """Pack the features of one view into a vector [D + P*D + E]."""
        parts = (features.video_features, features.patch_features, features.prototype_features)
        return np.concatenate([part.ravel() for part in parts if part is not None]).astype(np.float32)

    def unpack(self, vectors: Float32Array) -> VideoFeatures:
        """Unpack vectors [N, D + P*D + E] into the features of N views."""
        video, patches, prototypes = np.split(
            vectors, (self.embed_dim, self.embed_dim * (1 + self.num_patches)), axis=1
        )
        return VideoFeatures(
            video_features=video,
            patch_features=patches.reshape(len(vectors), self.num_patches, -1) if self.num_patches else None,
            prototype_features=prototypes if self.prototype_dim else None,
        )
