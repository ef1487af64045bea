"""X-CLIP in the format of Hugging Face's transformers: a folder of config.json and weights under other names.

Head counts are in the configuration, not derived from widths. The processor's settings are not read: the released
weights were evaluated with the original protocol, which the checkpoint contains.
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
from training.checkpoints.foreign_files import read_json, read_weight_files, tensors_of
from training.checkpoints.names import renamed, to_official
from training.checkpoints.native_format import Checkpoint, CheckpointError
from training.checkpoints.overrides import Overrides
from training.checkpoints.xclip_files import FRAME_POSITIONS, xclip_checkpoint

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
PREFIXES = (
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
LEAVES = (
    (".attn.", ".self_attn."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)
STACKS = tuple(there for _, there in PREFIXES[:3])
IGNORED = re.compile(r"(text|vision)_model\.embeddings\.position_ids")  # buffers of older versions
THIRDS = re.compile(r"(.+\.(?:self_attn|message_attn))\.([qkv])_proj\.(weight|bias)")
PACKED = re.compile(r"(.+\.(?:self_attn|message_attn))\.in_proj_(weight|bias)")
EPS = 1e-5
ACTIVATION = "quick_gelu"  # in every part


def read_hugging_face(folder: Path, overrides: Overrides, file: Path | None = None) -> Checkpoint:
    """Return the checkpoint of a folder written by `save_pretrained`, with the weights of `file` if given.

    Raises:
        CheckpointError: there are no weights, or the configuration is not supported.
    """
    config = read_json(folder / "config.json")
    weights = from_hugging_face_names(tensors_of(read_weight_files(folder, WEIGHT_FILES, file), str(folder)))
    if FRAME_POSITIONS not in weights:
        raise CheckpointError(f"{folder}: 1 missing: mit.position_embedding")
    return xclip_checkpoint(weights, _complete(overrides, config))


def to_hugging_face(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config.json and model.safetensors, as `XCLIPModel.from_pretrained` reads them.

    Raises:
        CheckpointError: the model is not an X-CLIP with prompt generator, the only variant in transformers.
    """
    require_clip_towers(checkpoint, "xclip")
    if checkpoint.model_config["prompts"] is None:
        raise CheckpointError("transformers' X-CLIP always has a prompt generator, this model has none")
    for part in ("vision", "text"):
        if checkpoint.model_config[part].get("activation", ACTIVATION) != ACTIVATION:
            raise CheckpointError(f"transformers' X-CLIP has {ACTIVATION} everywhere, the {part} tower has another")
    folder.mkdir(parents=True, exist_ok=True)
    weights = to_hugging_face_names(renamed(checkpoint.weights, to_official))
    stored = {name: item.contiguous().clone() for name, item in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    document = json.dumps(hugging_face_config(checkpoint), indent=2) + "\n"
    (folder / "config.json").write_text(document, encoding="utf-8")


def hugging_face_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the config.json of a checkpoint."""
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
    """Convert transformers' names to X-CLIP's; pack q, k and v, and transpose two projections.

    An unknown name is kept, so that a strict load reports it.
    """
    kept = {name: item for name, item in weights.items() if not IGNORED.fullmatch(name)}
    packed = _pack_thirds(kept)
    back = {there: here for here, there in TRANSPOSED.items()}
    return {back.get(name) or _official_name(name): item.T if name in back else item for name, item in packed.items()}


def to_hugging_face_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_hugging_face_names`."""
    found: dict[str, Tensor] = {}
    for name, item in weights.items():
        if name in TRANSPOSED:
            found[TRANSPOSED[name]] = item.T
            continue
        there = _hugging_face_name(name)
        packed = PACKED.fullmatch(there)
        if packed is None:
            found[there] = item
            continue
        attention, leaf = packed.groups()
        for letter, third in zip("qkv", item.chunk(3), strict=True):
            found[f"{attention}.{letter}_proj.{leaf}"] = third
    return found


def _pack_thirds(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    packed: dict[str, Tensor] = {}
    for name, item in weights.items():
        found = THIRDS.fullmatch(name)
        if found is None:
            packed[name] = item
            continue
        attention, letter, leaf = found.groups()
        parts = [weights.get(f"{attention}.{each}_proj.{leaf}") for each in "qkv"]
        if any(part is None for part in parts):
            absent = [
                f"{attention}.{each}_proj.{leaf}" for each, part in zip("qkv", parts, strict=True) if part is None
            ]
            raise CheckpointError(f"{len(absent)} missing: {', '.join(absent)}")
        if letter == "q":
            packed[f"{attention}.in_proj_{leaf}"] = torch.cat([part for part in parts if part is not None])
    return packed


def _official_name(name: str) -> str:
    for here, there in PREFIXES:
        if name.startswith(there):
            short = here + name.removeprefix(there)
            if there in STACKS:
                for inner, outer in LEAVES:
                    short = short.replace(outer, inner)
            return short
    return name


def _hugging_face_name(name: str) -> str:
    for here, there in PREFIXES:
        if name.startswith(here):
            long = there + name.removeprefix(here)
            if there in STACKS:
                for inner, outer in LEAVES:
                    long = long.replace(inner, outer)
            return long
    return name


def _complete(overrides: Overrides, config: Mapping[str, Any]) -> Overrides:
    """Fill in head counts from the configuration; defaults are transformers'."""
    text, vision = config.get("text_config") or {}, config.get("vision_config") or {}
    required = {
        "text_config.hidden_act": (text.get("hidden_act", ACTIVATION), ACTIVATION),
        "vision_config.hidden_act": (vision.get("hidden_act", ACTIVATION), ACTIVATION),
        "prompt_hidden_act": (config.get("prompt_hidden_act", ACTIVATION), ACTIVATION),
        "text_config.layer_norm_eps": (text.get("layer_norm_eps", EPS), EPS),
        "vision_config.layer_norm_eps": (vision.get("layer_norm_eps", EPS), EPS),
    }
    for name, (found, expected) in required.items():
        if found != expected:
            raise CheckpointError(f"config.json, {name}: expected {expected}, found {found}")
    stated = {
        "vision_heads": vision.get("num_attention_heads", 12),
        "text_heads": text.get("num_attention_heads", 8),
        "mit_heads": vision.get("mit_num_attention_heads", 8),
        "prompt_heads": config.get("prompt_num_attention_heads", 8),
    }
    return replace(overrides, **{name: getattr(overrides, name) or value for name, value in stated.items()})
