"""Derive the sizes of towers from tensors with OpenAI's names; by default a head has CLIP's width of 64."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.checkpoints.native_format import CheckpointError

HEAD_WIDTH = 64
VISION_KEYS = (
    "visual.class_embedding",
    "visual.positional_embedding",
    "visual.proj",
    "visual.conv1.weight",
    "visual.transformer.resblocks.0.mlp.c_fc.weight",
)
TEXT_KEYS = (
    "positional_embedding",
    "text_projection",
    "token_embedding.weight",
    "ln_final.weight",
    "transformer.resblocks.0.mlp.c_fc.weight",
)


def derive_vision_config(weights: Mapping[str, Tensor], *, heads: int | None, activation: str) -> dict[str, Any]:
    """Return the configuration of the vision tower; the image size is derived from the number of position embeddings.

    Raises:
        CheckpointError: a tensor is missing, or the positions do not form a square.
    """
    weights = {re.sub(r"(resblocks\.\d+)\.net\.", r"\1.", name): item for name, item in weights.items()}
    require_keys(weights, VISION_KEYS)
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    positions = weights["visual.positional_embedding"].shape[0] - 1
    grid = round(positions**0.5)
    if grid * grid != positions:
        raise CheckpointError(f"visual.positional_embedding: {positions} patches do not form a square grid")
    blocks = [name for name in weights if name.startswith("visual.") and name.endswith(".attn.in_proj_weight")]
    return {
        "kind": "clip",
        "image_size": grid * patch,
        "patch_size": patch,
        "width": width,
        "layers": len(blocks),
        "heads": heads or default_heads(width, "vision_heads"),
        "embed_dim": weights["visual.proj"].shape[1],
        "activation": activation,
        **_mlp_width(weights["visual.transformer.resblocks.0.mlp.c_fc.weight"]),
    }


def derive_text_config(weights: Mapping[str, Tensor], *, heads: int | None, activation: str) -> dict[str, Any]:
    """Return the configuration of the text tower.

    Raises:
        CheckpointError: a tensor is missing.
    """
    require_keys(weights, TEXT_KEYS)
    width = weights["ln_final.weight"].shape[0]
    return {
        "kind": "clip",
        "context_length": weights["positional_embedding"].shape[0],
        "vocab_size": weights["token_embedding.weight"].shape[0],
        "width": width,
        "layers": count_blocks(weights, "transformer.resblocks."),
        "heads": heads or default_heads(width, "text_heads"),
        "embed_dim": weights["text_projection"].shape[1],
        "activation": activation,
        **_mlp_width(weights["transformer.resblocks.0.mlp.c_fc.weight"]),
    }


def count_blocks(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of different indices that follow `prefix` in the names."""
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})


def default_heads(width: int, name: str) -> int:
    """Return the number of heads for CLIP's head width of 64.

    Raises:
        CheckpointError: the width is not a multiple of 64.
    """
    if width % HEAD_WIDTH:
        raise CheckpointError(f"{name}: cannot derive the number of heads from a width of {width}; give {name}")
    return width // HEAD_WIDTH


def require_keys(weights: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
    """Check that the weights contain these names.

    Raises:
        CheckpointError: names are missing; the message lists them.
    """
    missing = [name for name in names if name not in weights]
    if missing:
        raise CheckpointError(f"cannot derive the sizes of the model: missing keys: {', '.join(missing)}")


def _mlp_width(weight: Tensor) -> dict[str, int]:
    hidden, width = weight.shape
    return {} if hidden == 4 * width else {"mlp_width": hidden}
