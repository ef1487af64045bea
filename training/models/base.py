"""What every model gives to the trainer, to export and to the reference check: towers, their joint space and its scale.

A model is a vision tower over frames, a text tower over token rows and, by family, what joins the frames of a video.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from serve.contract import Family
from training.errors import InputError

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)  # CLIP, arXiv:2103.00020 section 2.5


class ModelConfigError(InputError, ValueError):
    """A model configuration that names something unknown, lacks a field or contradicts itself."""


class VideoOutput(NamedTuple):
    """Features of a batch of videos, of any length."""

    video_features: Tensor  # [B, D]
    patch_features: Tensor | None  # [B, P, D] for models with a prompt head
    prototype_features: Tensor | None = None  # [B, E] for towers that give richer features for examples


class VisionTower(nn.Module):
    """Frames [N, 3, S, S] (float, normalised) -> frame features [N, D].

    A tower that looks at several frames at once (`frames_at_once` > 1) takes the frames of a video side by side. One
    that gives prototype features (`prototype_dim` > 0) computes both kinds in `with_prototypes`.
    """

    image_size: int  # S, pixels
    embed_dim: int  # D
    frames_at_once: int = 1
    prototype_dim: int = 0  # E

    def forward(self, frames: Tensor) -> Tensor:
        raise NotImplementedError

    def with_prototypes(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frame features [N, D] and prototype features [N, E]."""
        raise NotImplementedError


class TextTower(nn.Module):
    """Tokens int64 [R, L] -> text features [R, D]; L may be below `context_length` where the tower takes short rows."""

    context_length: int
    embed_dim: int  # D
    width: int
    takes_short_rows: bool  # a causal tower, or one that masks padding: what is cut off changes no number

    def forward(self, tokens: Tensor) -> Tensor:
        raise NotImplementedError


class VideoTextModel(nn.Module):
    """A dual encoder of videos and texts; `logit_scale` is in log space, as CLIP learns it."""

    family: Family
    has_prompt_head = False  # `head` needs the patches of the video: logits are more than a cosine

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
                f"vision tower gives {visual.embed_dim} values, text tower {text.embed_dim}: one joint space is needed"
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
        """Whether each frame can be encoded alone: `encode_frames` then `fuse` equals `encode_video`."""
        return False

    def encode_video(self, frames: Tensor) -> VideoOutput:
        """Features of videos; frames [B, T, 3, S, S], float, normalised."""
        raise NotImplementedError

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features [R, D] of tokens int64 [R, L], not normalised.

        Where the text tower takes short rows L may be below the context length: the same numbers for less work.
        """
        length = tokens.shape[1]
        if length > self.context_length or (length < self.context_length and not self.text.takes_short_rows):
            allowed = (
                f"at most {self.context_length}" if self.text.takes_short_rows else f"exactly {self.context_length}"
            )
            raise ValueError(f"rows of {length} tokens: this text tower takes {allowed}")
        return self.text(tokens)  # type: ignore[no-any-return]

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Features [N, D] of single frames [N, 3, S, S]."""
        raise NotImplementedError(f"{self.family} as configured does not encode frames alone")

    @property
    def prototype_dim(self) -> int:
        """E of the prototype features; 0 where the model gives none."""
        return 0

    def encode_frames_with_prototypes(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, D] and prototype features [N, E] of single frames [N, 3, S, S]."""
        raise NotImplementedError(f"{self.family} as configured gives no prototype features")

    def fuse_prototypes(self, frame_prototypes: Tensor) -> Tensor:
        """Prototype features [B, E] of videos from those of their frames [B, T, E]."""
        raise NotImplementedError(f"{self.family} as configured gives no prototype features")

    def fuse(self, frame_features: Tensor) -> Tensor:
        """Features [B, D] of videos from those of their frames [B, T, D]."""
        raise NotImplementedError(f"{self.family} as configured does not encode frames alone")

    def head(self, video_features: Tensor, patch_features: Tensor | None, text_features: Tensor) -> Tensor:
        """logits [B, K] of video_features [B, D] (and patch_features [B, P, D]) against text_features [K, D].

        Normalisations, exp(logit_scale) and the bias are inside.
        """
        return self.cosine_logits(video_features, text_features)

    def cosine_logits(self, video_features: Tensor, text_features: Tensor) -> Tensor:
        """exp(logit_scale) times the cosine, plus the bias if there is one; [B, D], [K, D] -> [B, K]."""
        cosine = nn.functional.normalize(video_features, dim=-1) @ nn.functional.normalize(text_features, dim=-1).T
        logits = self.logit_scale.exp() * cosine  # [B, K]
        return logits if self.logit_bias is None else logits + self.logit_bias
