"""Models for few-shot evaluation: a checkpoint in torch, or a `serve.served_model.ServedModel`.

Both return NumPy arrays: video features [B, D] (with a prompt head, also patch features [B, P, D]), text features [R,
D], and the logits of a prompt head.
"""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.contract import PreprocessContract, SamplingContract, ScoringContract, TextContract
from serve.features import FeatureLayout, VideoFeatures
from serve.files import file_sha256
from serve.text.tokenizer import Tokenizer
from training.checkpoints.reading import read_checkpoint
from training.checkpoints.tokenizer_files import apply_tokenizer_file
from training.data.clips.rules import normalised
from training.data.prompts import tokenizer_of


class FewShotModel(Protocol):
    """A model with its rules."""

    identity: str  # changes with the weights of the video part
    family: str
    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract
    scoring: ScoringContract
    tokenizer: Tokenizer
    layout: FeatureLayout  # layout of its features of a video

    def encode_video(self, views: UInt8Array) -> VideoFeatures:
        """Return features of views [B, T, 3, S, S]."""
        ...

    def encode_text(self, tokens: Int64Array) -> Float32Array:
        """Return text features [R, D] of tokens [R, L]."""
        ...

    def prompt_head_logits(self, video: Float32Array, patches: Float32Array, texts: Float32Array) -> Float32Array:
        """Return the prompt head's logits [B, K] for texts [K, D]."""
        ...


class CheckpointModel:
    """A checkpoint of any supported format."""

    def __init__(
        self, path: Path, *, tokenizer: Path | None, device: torch.device, activation: str | None = None
    ) -> None:
        """Read a checkpoint; `activation` is that of CLIP's towers, if the file does not contain it.

        Raises:
            CheckpointError: it cannot be read.
            ConfigError: it needs a tokenizer file.
        """
        checkpoint = read_checkpoint(path, overrides={"activation": activation} if activation else {})
        if tokenizer is not None and checkpoint.text.tokenizer == "tokenizers":
            checkpoint = replace(checkpoint, text=apply_tokenizer_file(checkpoint.text, tokenizer))
        self.identity = file_sha256(path) if path.is_file() else str(checkpoint.provenance["sha256"])
        self.family: str = checkpoint.family
        self.sampling, self.preprocess = checkpoint.sampling, checkpoint.preprocess
        self.text, self.scoring = checkpoint.text, checkpoint.scoring
        self.tokenizer = tokenizer_of(checkpoint.text, tokenizer, key="--tokenizer")
        self._model = checkpoint.build().to(device)
        self._device = device
        self.layout = self._layout()

    @torch.no_grad()
    def encode_video(self, views: UInt8Array) -> VideoFeatures:
        """See `FewShotModel`."""
        found = self._model.encode_video(normalised(torch.from_numpy(views).to(self._device), self.preprocess))
        return VideoFeatures(
            video_features=found.video_features.cpu().numpy(),
            patch_features=_array(found.patch_features if self._model.has_prompt_head else None),
            prototype_features=_array(found.prototype_features),
        )

    @torch.no_grad()
    def encode_text(self, tokens: Int64Array) -> Float32Array:
        """See `FewShotModel`."""
        features: Float32Array = self._model.encode_text(torch.from_numpy(tokens).to(self._device)).cpu().numpy()
        return features

    @torch.no_grad()
    def prompt_head_logits(self, video: Float32Array, patches: Float32Array, texts: Float32Array) -> Float32Array:
        """See `FewShotModel`."""
        parts = (torch.from_numpy(array).to(self._device) for array in (video, patches, texts))
        logits: Float32Array = self._model.head(*parts).cpu().numpy()
        return logits

    def _layout(self) -> FeatureLayout:
        size = self.preprocess.image_size
        found = self.encode_video(np.zeros((1, self.sampling.num_segments, 3, size, size), np.uint8))
        return FeatureLayout(
            embed_dim=self._model.embed_dim,
            num_patches=0 if found.patch_features is None else found.patch_features.shape[1],
            prototype_dim=self._model.prototype_dim,
        )


def _array(tensor: Tensor | None) -> Float32Array | None:
    return None if tensor is None else tensor.cpu().numpy()
