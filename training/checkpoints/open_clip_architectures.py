"""Architectures of open_clip: which are plain ViTs, and the sizes and head counts of those."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import open_clip

from serve.contract import SamplingRule
from training.checkpoints.native_format import CheckpointError
from training.models.open_clip_towers import architecture

CLIP_VOCABULARY = 49408  # rows of the token table of CLIP's own tokenizer
HEAD_WIDTH = 64  # of open_clip's vision towers whose configuration says nothing
_PLAIN = {
    "": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "custom_text"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers"},
}


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is that of OpenAI's plain ViT with a causal text tower, and of nothing more."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return (
        set(config) <= _PLAIN[""]
        and set(vision) <= _PLAIN["vision_cfg"]
        and set(text) <= _PLAIN["text_cfg"]
        and isinstance(vision["layers"], int)
        and isinstance(vision["image_size"], int)
    )


def plain_heads(config: Mapping[str, Any]) -> tuple[int, int]:
    """Attention heads of both towers, vision first; the tensors do not tell them."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return int(vision["width"]) // int(vision.get("head_width", HEAD_WIDTH)), int(text["heads"])


def plain_sizes(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The sizes that tensors show too; see `tensor_sizes`."""
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
    """The same sizes from the towers' configurations as `training.checkpoints.sizes` reads them off tensors."""
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
    """Names of the plain architectures of these sizes."""
    return tuple(name for name, found in _plain_architectures() if found == sizes)


@lru_cache(maxsize=1)
def _plain_architectures() -> tuple[tuple[str, tuple[int, ...]], ...]:
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return tuple((name, plain_sizes(config)) for name, config in configs.items() if is_plain(config))


def architecture_like(config: Mapping[str, Any]) -> str | None:
    """The name of an architecture with the configuration of an `open_clip_config.json`, the activation aside."""
    wanted = {**config, "quick_gelu": None}
    same = (
        name for name in open_clip.list_models() if {**open_clip.get_model_config(name), "quick_gelu": None} == wanted
    )
    return next(same, None)


def square_image_size(arch: str) -> int:
    """S of an architecture.

    Raises:
        CheckpointError: its input is no square.
    """
    size = architecture(arch)["vision_cfg"]["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise CheckpointError(f"{arch} takes pictures of {width}x{height}, served are square ones")
    return int(height)


def sampling_rule(arch: str) -> SamplingRule:
    """Segment centres; PE-Core's published evaluation takes both ends of the video."""
    return "ends" if arch.startswith("PE-Core") else "centres"


def has_clip_tokenizer(arch: str) -> bool:
    """Whether the architecture uses the byte-level BPE that open_clip ships; others need a tokenizer file."""
    text = architecture(arch)["text_cfg"]
    is_foreign = "hf_tokenizer_name" in text or "hf_model_name" in text
    return not is_foreign and text.get("vocab_size", CLIP_VOCABULARY) == CLIP_VOCABULARY
