"""The graphs to export from a model: torch modules with their input and output tensors.

Normalization is part of the video graph, so clients send uint8 pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from serve.contract import PreprocessContract, SamplingContract, TensorContract, TextContract
from training.models.base import VideoTextModel

Component = Literal["text", "video"]  # the Triton model whose folder contains the graph


@dataclass(frozen=True, kw_only=True)
class GraphPlan:
    """One graph to export, with its file, module, inputs and outputs."""

    component: Component
    file: str
    module: nn.Module
    example: Mapping[str, Tensor]  # inputs whose dynamic axes are greater than 1 and all different
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]
    bounds: Mapping[str, int] = field(default_factory=dict)  # maximum size of dynamic axes that have one


class Normalization(nn.Module):
    """Normalises pixels 0..255 with the mean and standard deviation of training."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: PreprocessContract) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(preprocess.mean).reshape(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocess.std).reshape(3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        return (frames.to(torch.float32) - self.mean) / self.std


class VideoGraph(nn.Module):
    """frames uint8 [B, T, 3, S, S] -> video_features [B, D], patch_features [B, P, D], prototype_features [B, E].

    Patch and prototype features are omitted if the model has none.
    """

    def __init__(self, model: VideoTextModel, preprocess: PreprocessContract) -> None:
        super().__init__()
        self.model = model
        self.normalize = Normalization(preprocess)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        return tuple(item for item in self.model.encode_video(self.normalize(frames)) if item is not None)


class TextGraph(nn.Module):
    """tokens int64 [R, L] -> text_features [R, D]."""

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        # `encode_text` is not used: its length check would make the dynamic axis L static
        return self.model.text(tokens)  # type: ignore[no-any-return]


class HeadGraph(nn.Module):
    """X-CLIP's prompt head: video_features [B, D], patch_features [B, P, D], text_features [K, D] -> logits [B, K]."""

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, video_features: Tensor, patch_features: Tensor, text_features: Tensor) -> Tensor:
        return self.model.head(video_features, patch_features, text_features)


class FramesGraph(nn.Module):
    """frames uint8 [N, 3, S, S] -> frame_features [N, D] and frame_prototypes [N, E], the prototype features of frames.

    Used for long videos, to encode each frame once. `frame_prototypes` is omitted if the model has none.
    """

    def __init__(self, model: VideoTextModel, preprocess: PreprocessContract) -> None:
        super().__init__()
        self.model = model
        self.normalize = Normalization(preprocess)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        pixels = self.normalize(frames)
        return (
            self.model.encode_frames_with_prototypes(pixels)
            if self.model.prototype_dim
            else (self.model.encode_frames(pixels),)
        )


class FusionGraph(nn.Module):
    """frame_features [B, T, D] (and frame_prototypes [B, T, E]) -> video_features [B, D] (and prototype_features)."""

    def __init__(self, model: VideoTextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, frame_features: Tensor, frame_prototypes: Tensor | None = None) -> tuple[Tensor, ...]:
        video_features = self.model.fuse(frame_features)
        return (
            (video_features,)
            if frame_prototypes is None
            else (video_features, self.model.fuse_prototypes(frame_prototypes))
        )


def make_graph_plans(
    model: VideoTextModel, *, sampling: SamplingContract, preprocess: PreprocessContract, text: TextContract
) -> dict[str, GraphPlan]:
    """Return the graphs to export, keyed by their name in the contract."""
    segments, size, embed_dim = sampling.num_segments, preprocess.image_size, model.embed_dim
    frames = torch.zeros(2, segments, 3, size, size, dtype=torch.uint8)
    with torch.no_grad():
        output = model.eval().encode_video(Normalization(preprocess)(frames[:1]))
    patches = None if output.patch_features is None else output.patch_features.shape[1]  # P
    plans = {
        "text": _text_plan(model, text),
        "video": _video_plan(VideoGraph(model, preprocess), frames, model=model, num_patches=patches),
    }
    if patches is not None:
        plans["head"] = _head_plan(model, num_patches=patches)
    if model.is_frame_wise:
        plans["frames"] = _frames_plan(model, preprocess)
        plans["fusion"] = _fusion_plan(model, segments=segments, embed_dim=embed_dim)
    return plans


def _video_plan(module: VideoGraph, frames: Tensor, *, model: VideoTextModel, num_patches: int | None) -> GraphPlan:
    outputs = [TensorContract(name="video_features", dtype="float32", axes=("B", model.embed_dim))]
    if num_patches is not None:
        axes = ("B", num_patches, model.embed_dim)
        outputs.append(TensorContract(name="patch_features", dtype="float32", axes=axes))
    if model.prototype_dim:
        outputs.append(TensorContract(name="prototype_features", dtype="float32", axes=("B", model.prototype_dim)))
    return GraphPlan(
        component="video",
        file="model.onnx",
        module=module,
        example={"frames": frames},
        inputs=(TensorContract(name="frames", dtype="uint8", axes=("B", *frames.shape[1:])),),
        outputs=tuple(outputs),
    )


def _frames_plan(model: VideoTextModel, preprocess: PreprocessContract) -> GraphPlan:
    size = preprocess.image_size
    outputs = [TensorContract(name="frame_features", dtype="float32", axes=("N", model.embed_dim))]
    if model.prototype_dim:
        outputs.append(TensorContract(name="frame_prototypes", dtype="float32", axes=("N", model.prototype_dim)))
    return GraphPlan(
        component="video",
        file="frames.onnx",
        module=FramesGraph(model, preprocess),
        example={"frames": torch.zeros(5, 3, size, size, dtype=torch.uint8)},
        inputs=(TensorContract(name="frames", dtype="uint8", axes=("N", 3, size, size)),),
        outputs=tuple(outputs),
    )


def _fusion_plan(model: VideoTextModel, *, segments: int, embed_dim: int) -> GraphPlan:
    widths = {"frame_features": embed_dim, "frame_prototypes": model.prototype_dim}
    features = {name: width for name, width in widths.items() if width}
    outputs = zip(("video_features", "prototype_features"), features.values(), strict=False)
    return GraphPlan(
        component="video",
        file="fusion.onnx",
        module=FusionGraph(model),
        example={name: torch.randn(2, segments, width) for name, width in features.items()},
        inputs=tuple(
            TensorContract(name=name, dtype="float32", axes=("B", segments, width)) for name, width in features.items()
        ),
        outputs=tuple(TensorContract(name=name, dtype="float32", axes=("B", width)) for name, width in outputs),
    )


def _text_plan(model: VideoTextModel, text: TextContract) -> GraphPlan:
    length = min(7, text.context_length - 1) if text.dynamic_length else text.context_length
    axis: str | int = "L" if text.dynamic_length else text.context_length
    return GraphPlan(
        component="text",
        file="model.onnx",
        module=TextGraph(model),
        example={"tokens": torch.full((3, length), text.pad_id, dtype=torch.int64)},
        inputs=(TensorContract(name="tokens", dtype="int64", axes=("R", axis)),),
        outputs=(TensorContract(name="text_features", dtype="float32", axes=("R", model.embed_dim)),),
        bounds={"L": text.context_length} if text.dynamic_length else {},
    )


def _head_plan(model: VideoTextModel, *, num_patches: int) -> GraphPlan:
    embed_dim = model.embed_dim
    return GraphPlan(
        component="video",
        file="head.onnx",
        module=HeadGraph(model),
        example={
            "video_features": torch.randn(2, embed_dim),
            "patch_features": torch.randn(2, num_patches, embed_dim),
            "text_features": torch.randn(5, embed_dim),
        },
        inputs=(
            TensorContract(name="video_features", dtype="float32", axes=("B", embed_dim)),
            TensorContract(name="patch_features", dtype="float32", axes=("B", num_patches, embed_dim)),
            TensorContract(name="text_features", dtype="float32", axes=("K", embed_dim)),
        ),
        outputs=(TensorContract(name="logits", dtype="float32", axes=("B", "K")),),
    )
