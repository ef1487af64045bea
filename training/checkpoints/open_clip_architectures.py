"""Architectures of open_clip; which of them are plain ViTs, their sizes and numbers of heads."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import open_clip

from serve.contract import SamplingRule
from training.models.open_clip_towers import architecture_config

CLIP_VOCABULARY = 49408  # number of tokens of CLIP's tokenizer
HEAD_WIDTH = 64  # default of open_clip's vision towers
_PLAIN_FIELDS = {
    "": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "custom_text"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers"},
}


def is_plain(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is exactly OpenAI's plain ViT with a causal text tower."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return (
        set(config) <= _PLAIN_FIELDS[""]
        and set(vision) <= _PLAIN_FIELDS["vision_cfg"]
        and set(text) <= _PLAIN_FIELDS["text_cfg"]
        and isinstance(vision["layers"], int)
        and isinstance(vision["image_size"], int)
    )


def plain_heads(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the numbers of attention heads of the vision and the text tower, which tensors do not show."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return int(vision["width"]) // int(vision.get("head_width", HEAD_WIDTH)), int(text["heads"])


def plain_sizes(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the sizes in a configuration that tensors show as well, in the order of `SIZE_NAMES`."""
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
    """Return the sizes in configurations derived from tensors, in the order of `SIZE_NAMES`."""
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
    """Return the names of the plain architectures with these sizes."""
    return tuple(name for name, other in _plain_architectures() if other == sizes)


@lru_cache(maxsize=1)
def _plain_architectures() -> tuple[tuple[str, tuple[int, ...]], ...]:
    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    return tuple((name, plain_sizes(config)) for name, config in configs.items() if is_plain(config))


def architecture_like(config: Mapping[str, Any]) -> str | None:
    """Return the architecture whose configuration equals a `model_cfg`, regardless of the activation, or None."""
    expected = {**config, "quick_gelu": None}
    matching = (
        name for name in open_clip.list_models() if {**open_clip.get_model_config(name), "quick_gelu": None} == expected
    )
    return next(matching, None)


def sampling_rule(arch: str) -> SamplingRule:
    """Return the sampling rule: for PE-Core, frames that include both ends of the video; otherwise segment centres."""
    return "ends" if arch.startswith("PE-Core") else "centres"


def has_clip_tokenizer(arch: str) -> bool:
    """Return whether the architecture uses CLIP's BPE tokenizer; others require a tokenizer file."""
    text = architecture_config(arch)["text_cfg"]
    is_hub_tokenizer = "hf_tokenizer_name" in text or "hf_model_name" in text
    return not is_hub_tokenizer and text.get("vocab_size", CLIP_VOCABULARY) == CLIP_VOCABULARY
