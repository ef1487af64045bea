"""The graphs of a model: torch modules over its towers, with the tensors each takes and gives.

Normalisation lives here, inside the video graph, so that uint8 pixels travel; `exp` of the learned scale is applied here
and nowhere else in export.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from serve.contract import Family, PreprocessContract, SamplingContract, TensorContract, TextContract
from training.models.base import VideoTextModel

Part = Literal["text", "video"]


@dataclass(frozen=True, kw_only=True)
class GraphPlan:
    """One graph before it is exported: where it goes, what it computes, what it takes and gives."""

    part: Part
    file: str
    module: nn.Module
    example: Mapping[str, Tensor]  # its dynamic axes are larger than 1 and all different
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]


class Normalization(nn.Module):
    """Pixels 0..255 to the values the model was trained on."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: PreprocessContract) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(preprocess.mean).reshape(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocess.std).reshape(3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        return (frames.to(torch.float32) - self.mean) / self.std


class VideoGraph(nn.Module):
    """frames uint8 [B, T, 3, S, S] -> video_features [B, D] and, for X-CLIP, patch_features [B, P, D]."""

    def __init__(self, model: VideoTextModel, preprocess: PreprocessContract) -> None:
        super().__init__()
        self.model = model
        self.normalize = Normalization(preprocess)

    def forward(self, frames: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        output = self.model.encode_video(self.normalize(frames))
        if output.patch_features is None:
            return output.video_features
        return output.video_features, output.patch_features


class TextGraph(nn.Module):
    """tokens int64 [R, L] -> text_features [R, D]."""

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.encode_text(tokens)


class HeadGraph(nn.Module):
    """X-CLIP's prompt head: video_features [B, D], patch_features [B, P, D], text_features [K, D] -> logits [B, K]."""

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, video_features: Tensor, patch_features: Tensor, text_features: Tensor) -> Tensor:
        return self.model.head(video_features, patch_features, text_features)


class FramesGraph(nn.Module):
    """frames uint8 [N, 3, S, S] -> frame_features [N, D]: each frame of a long video once."""

    def __init__(self, model: VideoTextModel, preprocess: PreprocessContract) -> None:
        super().__init__()
        self.model = model
        self.normalize = Normalization(preprocess)

    def forward(self, frames: Tensor) -> Tensor:
        return self.model.encode_frames(self.normalize(frames))


class FusionGraph(nn.Module):
    """frame_features [B, T, D] -> video_features [B, D]."""

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, frame_features: Tensor) -> Tensor:
        return self.model.fuse(frame_features)
