"""Read and write X-CLIP in the format of Hugging Face's transformers: a folder with config.json and weights.

The numbers of heads are read from the configuration, not derived from widths. The processor's settings are not read,
because the released weights were evaluated with the original protocol, which the checkpoint contains.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from training.checkpoints.actionclip_files import require_clip_towers
from training.checkpoints.foreign_files import read_json, read_weight_files, require_tensors
from training.checkpoints.names import rename_weights, to_official
from training.checkpoints.native_format import Checkpoint, CheckpointError
from training.checkpoints.overrides import Overrides
from training.checkpoints.xclip_files import FRAME_POSITIONS, xclip_checkpoint

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
TRANSPOSED = {  # X-CLIP's name -> transformers' name, whose matrix is transposed
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}
PREFIXES = (  # of X-CLIP, of transformers
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("mit.resblocks.", "mit.encoder.layers."),
    ("mit.positional_embedding", "mit.position_embedding"),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.ln_pre.", "vision_model.pre_layernorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("prompts_visual_ln.", "prompts_visual_layernorm."),
    ("prompts_visual_proj", "prompts_visual_projection"),
    ("prompts_generator.norm.", "prompts_generator.layernorm."),
)
BLOCK_PARTS = (  # within a transformer block: of X-CLIP, of transformers
    (".attn.", ".self_attn."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)
BLOCK_PREFIXES = tuple(prefix for _, prefix in PREFIXES[:3])
IGNORED = re.compile(r"(text|vision)_model\.embeddings\.position_ids")  # buffers stored by older versions
SEPARATE_QKV = re.compile(r"(.+\.(?:self_attn|message_attn))\.([qkv])_proj\.(weight|bias)")
PACKED_QKV = re.compile(r"(.+\.(?:self_attn|message_attn))\.in_proj_(weight|bias)")
EPS = 1e-5  # of LayerNorm
ACTIVATION = "quick_gelu"  # of all towers and heads


def read_hugging_face(folder: Path, overrides: Overrides, file: Path | None = None) -> Checkpoint:
    """Return the checkpoint of a folder written by `save_pretrained`, with the weights in `file` if given.

    Raises:
        CheckpointError: there are no weights, or the configuration is not supported.
    """
    config = read_json(folder / "config.json")
    weights = from_hugging_face_names(require_tensors(read_weight_files(folder, WEIGHT_FILES, file), str(folder)))
    if FRAME_POSITIONS not in weights:
        raise CheckpointError(f"{folder}: missing key: mit.position_embedding")
    return xclip_checkpoint(weights, _with_configuration(overrides, config))


def to_hugging_face(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config.json and model.safetensors in the format of `XCLIPModel.from_pretrained`.

    Raises:
        CheckpointError: the model is not an X-CLIP with a prompt generator, the only variant in transformers.
    """
    require_clip_towers(checkpoint, "xclip")
    if checkpoint.model_config["prompts"] is None:
        raise CheckpointError("X-CLIP in transformers always has a prompt generator, but this model has none")
    for part in ("vision", "text"):
        if checkpoint.model_config[part].get("activation", ACTIVATION) != ACTIVATION:
            raise CheckpointError(
                f"X-CLIP in transformers uses {ACTIVATION}, but the {part} tower uses another activation"
            )
    folder.mkdir(parents=True, exist_ok=True)
    weights = to_hugging_face_names(rename_weights(checkpoint.weights, to_official))
    tensors = {name: item.contiguous().clone() for name, item in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    document = json.dumps(hugging_face_config(checkpoint), indent=2) + "\n"
    (folder / "config.json").write_text(document, encoding="utf-8")


def hugging_face_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the content of config.json for a checkpoint."""
    model = checkpoint.model_config
    vision, text, mit, prompts = model["vision"], model["text"], model["mit"], model["prompts"]
    width = vision["embed_dim"]
    return {
        "architectures": ["XCLIPModel"],
        "model_type": "xclip",
        "projection_dim": width,
        "prompt_layers": prompts["layers"],
        "prompt_num_attention_heads": prompts["heads"],
        "prompt_hidden_act": ACTIVATION,
        "text_config": {
            "model_type": "xclip_text_model",
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "hidden_size": text["width"],
            "intermediate_size": text.get("mlp_width") or 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "hidden_act": ACTIVATION,
            "layer_norm_eps": EPS,
        },
        "vision_config": {
            "model_type": "xclip_vision_model",
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_size": vision["width"],
            "intermediate_size": vision.get("mlp_width") or 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["heads"],
            "hidden_act": ACTIVATION,
            "layer_norm_eps": EPS,
            "num_frames": model["num_frames"],
            "mit_hidden_size": width,
            "mit_intermediate_size": mit.get("mlp_width") or 4 * width,
            "mit_num_hidden_layers": mit["layers"],
            "mit_num_attention_heads": mit["heads"],
        },
    }


def from_hugging_face_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert transformers' names to X-CLIP's names; pack q, k and v, and transpose two projections.

    Unknown names are not changed, so that the check of all keys reports them.
    """
    weights = {name: item for name, item in weights.items() if not IGNORED.fullmatch(name)}
    packed = _pack_qkv(weights)
    official_names = {theirs: official for official, theirs in TRANSPOSED.items()}
    return {
        official_names.get(name) or _official_name(name): item.T if name in official_names else item
        for name, item in packed.items()
    }


def to_hugging_face_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert X-CLIP's names to transformers' names; the inverse of `from_hugging_face_names`."""
    converted: dict[str, Tensor] = {}
    for name, item in weights.items():
        if name in TRANSPOSED:
            converted[TRANSPOSED[name]] = item.T
            continue
        target = _hugging_face_name(name)
        packed = PACKED_QKV.fullmatch(target)
        if packed is None:
            converted[target] = item
            continue
        attention, parameter = packed.groups()
        for letter, part in zip("qkv", item.chunk(3), strict=True):
            converted[f"{attention}.{letter}_proj.{parameter}"] = part
    return converted


def _pack_qkv(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    packed: dict[str, Tensor] = {}
    for name, item in weights.items():
        match = SEPARATE_QKV.fullmatch(name)
        if match is None:
            packed[name] = item
            continue
        attention, letter, parameter = match.groups()
        parts = [weights.get(f"{attention}.{each}_proj.{parameter}") for each in "qkv"]
        if any(part is None for part in parts):
            missing = [
                f"{attention}.{each}_proj.{parameter}" for each, part in zip("qkv", parts, strict=True) if part is None
            ]
            raise CheckpointError(f"missing keys: {', '.join(missing)}")
        if letter == "q":
            packed[f"{attention}.in_proj_{parameter}"] = torch.cat([part for part in parts if part is not None])
    return packed


def _official_name(name: str) -> str:
    for official, theirs in PREFIXES:
        if name.startswith(theirs):
            converted = official + name.removeprefix(theirs)
            if theirs in BLOCK_PREFIXES:
                for official_part, their_part in BLOCK_PARTS:
                    converted = converted.replace(their_part, official_part)
            return converted
    return name


def _hugging_face_name(name: str) -> str:
    for official, theirs in PREFIXES:
        if name.startswith(official):
            converted = theirs + name.removeprefix(official)
            if theirs in BLOCK_PREFIXES:
                for official_part, their_part in BLOCK_PARTS:
                    converted = converted.replace(official_part, their_part)
            return converted
    return name


def _with_configuration(overrides: Overrides, config: Mapping[str, Any]) -> Overrides:
    """Check the configuration and fill in its numbers of heads; defaults are those of transformers."""
    text, vision = config.get("text_config") or {}, config.get("vision_config") or {}
    required = {
        "text_config.hidden_act": (text.get("hidden_act", ACTIVATION), ACTIVATION),
        "vision_config.hidden_act": (vision.get("hidden_act", ACTIVATION), ACTIVATION),
        "prompt_hidden_act": (config.get("prompt_hidden_act", ACTIVATION), ACTIVATION),
        "text_config.layer_norm_eps": (text.get("layer_norm_eps", EPS), EPS),
        "vision_config.layer_norm_eps": (vision.get("layer_norm_eps", EPS), EPS),
    }
    for name, (value, expected) in required.items():
        if value != expected:
            raise CheckpointError(f"config.json, {name}: must be {expected}, got {value}")
    heads = {
        "vision_heads": vision.get("num_attention_heads", 12),
        "text_heads": text.get("num_attention_heads", 8),
        "mit_heads": vision.get("mit_num_attention_heads", 8),
        "prompt_heads": config.get("prompt_num_attention_heads", 8),
    }
    return replace(overrides, **{name: getattr(overrides, name) or count for name, count in heads.items()})
