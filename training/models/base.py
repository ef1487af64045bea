"""The interface of models for trainer, export and reference check: towers, joint space and logit scale.

A model has a vision tower for frames, a text tower for token rows, and a family-specific fusion of frames.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from serve.contract import Family
from training.errors import InputError

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)  # CLIP, arXiv:2103.00020 section 2.5


class ModelConfigError(InputError, ValueError):
    """The model configuration names something unknown, lacks a field or contradicts itself."""


class VideoOutput(NamedTuple):
    """Features of a batch of videos, not normalised."""

    video_features: Tensor  # [B, D]
    patch_features: Tensor | None  # [B, P, D] for models with a prompt head
    prototype_features: Tensor | None = None  # [B, E] for towers with separate features for examples


class VisionTower(nn.Module):
    """Frames [N, 3, S, S] (float, normalised) -> frame features [N, D].

    A tower that mixes several frames (`frames_at_once` > 1) takes the frames of a video as adjacent rows. One with
    prototype features (`prototype_dim` > 0) computes both kinds in `with_prototypes`.
    """

    image_size: int  # S, pixels
    embed_dim: int  # D
    frames_at_once: int = 1
    prototype_dim: int = 0  # E

    def forward(self, frames: Tensor) -> Tensor:
        raise NotImplementedError

    def with_prototypes(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return frame features [N, D] and prototype features [N, E]."""
        raise NotImplementedError


class TextTower(nn.Module):
    """Tokens int64 [R, L] -> text features [R, D]; L may be below `context_length` if `takes_short_rows`."""

    context_length: int
    embed_dim: int  # D
    width: int
    takes_short_rows: bool  # causal, or masks padding: removing padding changes no result

    def forward(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError


class VideoTextModel(nn.Module):
    """A dual encoder of videos and texts; `logit_scale` is in log space, as CLIP learns it."""

    family: Family
    has_prompt_head = False  # `head` uses the patches of the video, not only a cosine

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
                f"the vision tower has {visual.embed_dim} dimensions, the text tower {text.embed_dim}: need equal"
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
        """Return whether frames can be encoded one by one: `encode_frames` then `fuse` equals `encode_video`."""
        return False

    def encode_video(self, frames: Tensor) -> VideoOutput:
        """Return features of videos; frames [B, T, 3, S, S], float, normalised."""
        raise NotImplementedError

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return features [R, D] of tokens int64 [R, L], not normalised.

        If the text tower takes short rows, L may be below the context length, which saves computation.
        """
        length = tokens.shape[1]
        if length > self.context_length or (length < self.context_length and not self.text.takes_short_rows):
            allowed = (
                f"at most {self.context_length}" if self.text.takes_short_rows else f"exactly {self.context_length}"
            )
            raise ValueError(f"rows of {length} tokens: this text tower takes {allowed}")
        return self.text(tokens)  # type: ignore[no-any-return]

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Return features [N, D] of single frames [N, 3, S, S]."""
        raise NotImplementedError(f"{self.family} as configured does not encode single frames")

    @property
    def prototype_dim(self) -> int:
        """Return E of the prototype features; 0 if there are none."""
        return 0

    def encode_frames_with_prototypes(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, D] and prototype features [N, E] of single frames [N, 3, S, S]."""
        raise NotImplementedError(f"{self.family} as configured has no prototype features")

    def fuse_prototypes(self, frame_prototypes: Tensor) -> Tensor:
        """Return prototype features [B, E] of videos from those of their frames [B, T, E]."""
        raise NotImplementedError(f"{self.family} as configured has no prototype features")

    def fuse(self, frame_features: Tensor) -> Tensor:
        """Return features [B, D] of videos from those of their frames [B, T, D]."""
        raise NotImplementedError(f"{self.family} as configured does not encode single frames")

    def head(self, video_features: Tensor, patch_features: Tensor | None, text_features: Tensor) -> Tensor:
        """logits [B, K] of video_features [B, D] (and patch_features [B, P, D]) against text_features [K, D].

        Includes normalisation, exp(logit_scale) and the bias.
        """
        return self.cosine_logits(video_features, text_features)

    def cosine_logits(self, video_features: Tensor, text_features: Tensor) -> Tensor:
        """Return exp(logit_scale) times the cosine, plus the bias if any; [B, D], [K, D] -> [B, K]."""
        cosine = nn.functional.normalize(video_features, dim=-1) @ nn.functional.normalize(text_features, dim=-1).T
        logits = self.logit_scale.exp() * cosine  # [B, K]
        return logits if self.logit_bias is None else logits + self.logit_bias
