"""Architectures of open_clip: the plain ViTs among them, with sizes and head counts."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import open_clip

from serve.contract import SamplingRule
from training.checkpoints.native_format import CheckpointError
from training.models.open_clip_towers import architecture

CLIP_VOCABULARY = 49408  # rows of the token table of CLIP's tokenizer
HEAD_WIDTH = 64  # default of open_clip's vision towers
_PLAIN = {
    "": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "custom_text"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers"},
}


def is_plain(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is exactly OpenAI's plain ViT with a causal text tower."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return (
        set(config) <= _PLAIN[""]
        and set(vision) <= _PLAIN["vision_cfg"]
        and set(text) <= _PLAIN["text_cfg"]
        and isinstance(vision["layers"], int)
        and isinstance(vision["image_size"], int)
    )


def plain_heads(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the attention heads of both towers, vision first; tensors do not contain them."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return int(vision["width"]) // int(vision.get("head_width", HEAD_WIDTH)), int(text["heads"])


def plain_sizes(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the sizes that are also visible in the tensors; see `tensor_sizes`."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    width, patch = int(vision["width"]), int(vision["patch_size"])
    return (
        int(config["embed_dim"]),
        width,
        int(vision["layers"]),
        patch,
        int(vision["image_size"]) // patch,
        int(width * vision.get("mlp_ratio", 4.0)),
        int(text["width"]),
        int(text["layers"]),
        int(text.get("vocab_size", CLIP_VOCABULARY)),
        int(text.get("context_length", 77)),
    )


SIZE_NAMES = (
    "embed_dim", "vision width", "vision layers", "patch size", "patches per side", "vision MLP width", "text width",
    "text layers", "vocabulary", "context length",
)  # fmt: skip


def tensor_sizes(vision: Mapping[str, Any], text: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the sizes from configurations that `training.checkpoints.sizes` derived from tensors."""
    return (
        vision["embed_dim"],
        vision["width"],
        vision["layers"],
        vision["patch_size"],
        vision["image_size"] // vision["patch_size"],
        vision.get("mlp_width") or 4 * vision["width"],
        text["width"],
        text["layers"],
        text["vocab_size"],
        text["context_length"],
    )


def architectures_of(sizes: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the plain architectures of these sizes."""
    return tuple(name for name, found in _plain_architectures() if found == sizes)


@lru_cache(maxsize=1)
def _plain_architectures() -> tuple[tuple[str, tuple[int, ...]], ...]:
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return tuple((name, plain_sizes(config)) for name, config in configs.items() if is_plain(config))


def architecture_like(config: Mapping[str, Any]) -> str | None:
    """Return the architecture with the configuration of an `open_clip_config.json`, regardless of activation."""
    wanted = {**config, "quick_gelu": None}
    same = (
        name for name in open_clip.list_models() if {**open_clip.get_model_config(name), "quick_gelu": None} == wanted
    )
    return next(same, None)


def square_image_size(arch: str) -> int:
    """Return the image size S of an architecture.

    Raises:
        CheckpointError: its input is not square.
    """
    size = architecture(arch)["vision_cfg"]["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise CheckpointError(f"{arch} takes pictures of {width}x{height}; only square ones are supported")
    return int(height)


def sampling_rule(arch: str) -> SamplingRule:
    """Return the sampling rule: segment centres, or for PE-Core frames including both ends of the video."""
    return "ends" if arch.startswith("PE-Core") else "centres"


def has_clip_tokenizer(arch: str) -> bool:
    """Return whether the architecture uses the BPE tokenizer of open_clip; others need a tokenizer file."""
    text = architecture(arch)["text_cfg"]
    is_foreign = "hf_tokenizer_name" in text or "hf_model_name" in text
    return not is_foreign and text.get("vocab_size", CLIP_VOCABULARY) == CLIP_VOCABULARY
