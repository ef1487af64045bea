"""Models for few-shot evaluation: a checkpoint, run with torch, or an exported `serve.served_model.ServedModel`.

Both return NumPy arrays: video features [B, D] (with a prompt head, also patch features [B, P, D]), text features
[R, D], and the logits of a prompt head.
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
from training.data.clips.rules import normalise_clips
from training.data.prompts import tokenizer_of


class FewShotModel(Protocol):
    """A model with its contracts and tokenizer."""

    identity: str  # identifies the weights of the video tower, for the feature cache
    family: str
    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract
    scoring: ScoringContract
    tokenizer: Tokenizer
    layout: FeatureLayout  # layout of the features of a video in one vector

    def encode_video(self, views: UInt8Array) -> VideoFeatures:
        """Return the features of views uint8 [B, T, 3, S, S]."""
        ...

    def encode_text(self, tokens: Int64Array) -> Float32Array:
        """Return text features [R, D] of tokens [R, L]."""
        ...

    def prompted_logits(self, video: Float32Array, patches: Float32Array, texts: Float32Array) -> Float32Array:
        """Return the logits [B, K] of the prompt head.

        `video` are video features [B, D], `patches` patch features [B, P, D], `texts` text features [K, D].
        """
        ...


class CheckpointModel:
    """A checkpoint of any supported format."""

    def __init__(
        self, path: Path, *, tokenizer: Path | None, device: torch.device, activation: str | None = None
    ) -> None:
        """Read a checkpoint; `activation` is that of CLIP's towers, if the file does not determine it.

        Raises:
            CheckpointError: the checkpoint cannot be read.
            ConfigError: the model does not use CLIP's tokenizer and `tokenizer` is None, or the file cannot be read.
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
        self.layout = self._infer_layout()

    @torch.no_grad()
    def encode_video(self, views: UInt8Array) -> VideoFeatures:
        """See `FewShotModel`."""
        output = self._model.encode_video(normalise_clips(torch.from_numpy(views).to(self._device), self.preprocess))
        return VideoFeatures(
            video_features=output.video_features.cpu().numpy(),
            patch_features=_to_array(output.patch_features if self._model.has_prompt_head else None),
            prototype_features=_to_array(output.prototype_features),
        )

    @torch.no_grad()
    def encode_text(self, tokens: Int64Array) -> Float32Array:
        """See `FewShotModel`."""
        features: Float32Array = self._model.encode_text(torch.from_numpy(tokens).to(self._device)).cpu().numpy()
        return features

    @torch.no_grad()
    def prompted_logits(self, video: Float32Array, patches: Float32Array, texts: Float32Array) -> Float32Array:
        """See `FewShotModel`."""
        inputs = (torch.from_numpy(array).to(self._device) for array in (video, patches, texts))
        logits: Float32Array = self._model.head(*inputs).cpu().numpy()
        return logits

    def _infer_layout(self) -> FeatureLayout:
        """Return the layout of the features, found by encoding one black view."""
        size = self.preprocess.image_size
        features = self.encode_video(np.zeros((1, self.sampling.num_segments, 3, size, size), np.uint8))
        return FeatureLayout(
            embed_dim=self._model.embed_dim,
            num_patches=0 if features.patch_features is None else features.patch_features.shape[1],
            prototype_dim=self._model.prototype_dim,
        )


def _to_array(tensor: Tensor | None) -> Float32Array | None:
    return None if tensor is None else tensor.cpu().numpy()
