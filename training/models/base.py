"""Base classes of towers and models: the interface that the trainer, the export and the reference check use.

A model has a vision tower for frames, a text tower for tokenized texts, and a fusion of frames that depends on the
family.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from serve.contract import Family
from training.errors import InputError

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)  # CLIP, arXiv:2103.00020 section 2.5


class ModelConfigError(InputError, ValueError):
    """A field of the model configuration is unknown, missing or invalid, or fields contradict each other."""


class VideoOutput(NamedTuple):
    """Features of a batch of videos, not normalised."""

    video_features: Tensor  # [B, D]
    patch_features: Tensor | None  # [B, P, D] for models with a prompt head
    prototype_features: Tensor | None = None  # [B, E] for towers with separate features for few-shot prototypes


class VisionTower(nn.Module):
    """Encodes frames [N, 3, S, S] (float, normalised) into frame features [N, D].

    A tower that mixes several frames (`frames_at_once` > 1) requires the frames of a video to be adjacent. A tower with
    features for few-shot prototypes (`prototype_dim` > 0) returns both kinds in `forward_with_prototype_features`.
    """

    image_size: int  # S, pixels
    embed_dim: int  # D
    frames_at_once: int = 1  # T if the tower mixes the frames of a video
    prototype_dim: int = 0  # E; 0 without prototype features

    def forward(self, frames: Tensor) -> Tensor:
        raise NotImplementedError

    def forward_with_prototype_features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return frame features [N, D] and prototype features [N, E]."""
        raise NotImplementedError


class TextTower(nn.Module):
    """Encodes tokens int64 [R, L] into text features [R, D].

    L may be less than `context_length` if `supports_variable_length`.
    """

    context_length: int
    embed_dim: int  # D
    width: int
    supports_variable_length: bool  # whether the result is the same without padding

    def forward(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError


class VideoTextModel(nn.Module):
    """A dual encoder of videos and texts; `logit_scale` is a logarithm, as in CLIP."""

    family: Family
    has_prompt_head = False  # whether `head` requires patch features

    def __init__(
        self,
        visual: VisionTower,
        text: TextTower,
        *,
        num_frames: int,
        logit_scale: float = INITIAL_LOGIT_SCALE,
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        if visual.embed_dim != text.embed_dim:
            raise ModelConfigError(
                "the towers must have the same embedding dimension, "
                f"got {visual.embed_dim} (vision) and {text.embed_dim} (text)"
            )
        self.num_frames = num_frames  # T
        self.image_size = visual.image_size  # S
        self.embed_dim = visual.embed_dim  # D
        self.context_length = text.context_length
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale)))
        self.logit_bias = None if logit_bias is None else nn.Parameter(torch.tensor(float(logit_bias)))
        self.visual = visual
        self.text = text

    @property
    def is_frame_wise(self) -> bool:
        """Whether frames can be encoded separately: `encode_frames`, then `fuse`, equals `encode_video`."""
        return False

    def encode_video(self, frames: Tensor) -> VideoOutput:
        """Encode videos; frames [B, T, 3, S, S] are float and normalised."""
        raise NotImplementedError

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode tokens int64 [R, L] into features [R, D], not normalised.

        If the text tower supports it, L may be less than the context length, which saves computation.

        Raises:
            ValueError: the text tower does not support the length L.
        """
        length = tokens.shape[1]
        if length > self.context_length or (length < self.context_length and not self.text.supports_variable_length):
            allowed = (
                f"at most {self.context_length}"
                if self.text.supports_variable_length
                else f"exactly {self.context_length}"
            )
            raise ValueError(f"the text tower requires {allowed} tokens per text, got {length}")
        return self.text(tokens)  # type: ignore[no-any-return]

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encode single frames [N, 3, S, S] into frame features [N, D]."""
        raise NotImplementedError(f"this {self.family} model does not encode frames separately")

    @property
    def prototype_dim(self) -> int:
        """E, the dimension of prototype features; 0 if there are none."""
        return 0

    def encode_frames_with_prototypes(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode single frames [N, 3, S, S] into frame features [N, D] and prototype features [N, E]."""
        raise NotImplementedError(f"this {self.family} model has no prototype features")

    def fuse_prototypes(self, frame_prototypes: Tensor) -> Tensor:
        """Combine the prototype features of frames [B, T, E] into those of videos [B, E]."""
        raise NotImplementedError(f"this {self.family} model has no prototype features")

    def fuse(self, frame_features: Tensor) -> Tensor:
        """Combine the features of frames [B, T, D] into those of videos [B, D]."""
        raise NotImplementedError(f"this {self.family} model does not encode frames separately")

    def head(self, video_features: Tensor, patch_features: Tensor | None, text_features: Tensor) -> Tensor:
        """Return the logits [B, K] of videos [B, D] against texts [K, D].

        They include normalisation, exp(logit_scale) and the bias. `patch_features` [B, P, D] are required if
        `has_prompt_head`.
        """
        return self.cosine_logits(video_features, text_features)

    def cosine_logits(self, video_features: Tensor, text_features: Tensor) -> Tensor:
        """Return exp(logit_scale) times the cosine, plus the bias if any; [B, D], [K, D] -> [B, K]."""
        cosine = nn.functional.normalize(video_features, dim=-1) @ nn.functional.normalize(text_features, dim=-1).T
        logits = self.logit_scale.exp() * cosine  # [B, K]
        return logits if self.logit_bias is None else logits + self.logit_bias
