"""Read and write checkpoints of ActionCLIP, and read those of its port in mmaction2.

Official files contain `model_state_dict` with CLIP's names and `fusion_model_state_dict` with the names of the fusion
model, prefixed with `module.`. Files of mmaction2 contain `state_dict` with the prefixes `clip.` and `adapter.`; their
position embedding has T rows and their fusion model uses a LayerNorm epsilon of 1e-5. The number of frames T can be
read only from models with position embeddings; otherwise it is assumed to be 8.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from training.checkpoints.foreign_files import require_tensors
from training.checkpoints.layouts import strip_wrappers
from training.checkpoints.names import FUSION_PREFIX, from_official, rename_weights, to_official
from training.checkpoints.native_format import Checkpoint, CheckpointError
from training.checkpoints.overrides import ASSUMED_FRAMES, Overrides
from training.checkpoints.sizes import count_blocks, derive_text_config, derive_vision_config
from training.recipes import family_contracts

FUSION_KEYS = {  # kind of fusion model -> a weight that only this kind has
    "LSTM": "lstm_visual.weight_ih_l0",
    "Conv_1D": "shift.weight",
    "Transf_cls": "transformer.cls_token",
    "Transf": "transformer.resblocks.0.ln_1.weight",
}
POSITIONS = "frame_position_embeddings.weight"
MMACTION_EPS = 1e-5


def is_official_actionclip(document: object) -> bool:
    """Return whether a loaded file was written by ActionCLIP's training script."""
    return isinstance(document, Mapping) and "model_state_dict" in document and "fusion_model_state_dict" in document


def is_mmaction_actionclip(document: object) -> bool:
    """Return whether a loaded file was written by mmaction2's port."""
    if not isinstance(document, Mapping) or not isinstance(document.get("state_dict"), Mapping):
        return False
    names = [str(name) for name in document["state_dict"]]
    is_mmaction = "meta" in document or any(name.startswith(("adapter.", "data_preprocessor.")) for name in names)
    return is_mmaction and any(name.startswith("clip.visual.") for name in names)


def read_official_actionclip(document: Mapping[str, Any], overrides: Overrides) -> Checkpoint:
    """Return the checkpoint of a loaded official file.

    Raises:
        CheckpointError: keys are missing or unexpected; the message lists them.
    """
    clip = strip_wrappers(require_tensors(document["model_state_dict"], "model_state_dict"))
    fusion = strip_wrappers(require_tensors(document["fusion_model_state_dict"], "fusion_model_state_dict"))
    return _make_checkpoint(clip, fusion, overrides, fusion_options={})


def read_mmaction_actionclip(document: Mapping[str, Any], overrides: Overrides) -> Checkpoint:
    """Return the checkpoint of a loaded mmaction2 file.

    Raises:
        CheckpointError: keys are missing or unexpected; the message lists them.
    """
    weights = require_tensors(document["state_dict"], "state_dict")
    others = sorted(name for name in weights if not name.startswith(("clip.", "adapter.", "data_preprocessor.")))
    if others:
        raise CheckpointError(f"state_dict: {len(others)} unexpected keys: {', '.join(others[:12])}")
    clip = {name.removeprefix("clip."): item for name, item in weights.items() if name.startswith("clip.")}
    fusion = {name.removeprefix("adapter."): item for name, item in weights.items() if name.startswith("adapter.")}
    options = {"eps": MMACTION_EPS} if fusion else {}
    if POSITIONS in fusion and overrides.num_frames is None:
        overrides = replace(overrides, num_frames=fusion[POSITIONS].shape[0])
    return _make_checkpoint(clip, fusion, overrides, fusion_options=options)


def to_official_actionclip(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a document for torch.save in ActionCLIP's layout; its loader accepts float32 and mixed precision.

    Raises:
        CheckpointError: the model is not an ActionCLIP model with CLIP towers.
    """
    require_clip_towers(checkpoint, "actionclip")
    weights = checkpoint.weights
    fusion = {
        name.removeprefix(FUSION_PREFIX): item for name, item in weights.items() if name.startswith(FUSION_PREFIX)
    }
    clip = {name: item for name, item in weights.items() if not name.startswith(FUSION_PREFIX)}
    return {
        "epoch": 0,
        "model_state_dict": rename_weights(clip, to_official),
        "fusion_model_state_dict": {f"module.{name}": item for name, item in fusion.items()},
    }


def as_saved_on_gpu(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert `model_state_dict` to the mixed dtypes in which ActionCLIP trains on a GPU.

    Convolutions, linear layers, attention and both projections are float16; LayerNorms, embeddings and the logit scale
    are float32.
    """
    return {name: item.to(torch.float16 if _is_half(name) else torch.float32) for name, item in weights.items()}


def require_clip_towers(checkpoint: Checkpoint, family: str) -> None:
    """Check that the checkpoint is of the family and that both towers are CLIP towers.

    Raises:
        CheckpointError: the family or a tower differs.
    """
    kinds = {checkpoint.model_config[part]["kind"] for part in ("vision", "text")}
    if checkpoint.family != family or kinds != {"clip"}:
        raise CheckpointError(
            f"this layout requires {family} with clip towers, got {checkpoint.family} with "
            f"{' and '.join(sorted(kinds))} towers"
        )


def _make_checkpoint(
    clip: dict[str, Tensor], fusion: dict[str, Tensor], overrides: Overrides, *, fusion_options: Mapping[str, Any]
) -> Checkpoint:
    activation = overrides.activation or "quick_gelu"
    vision = derive_vision_config(clip, heads=overrides.vision_heads, activation=activation)
    text = derive_text_config(clip, heads=overrides.text_heads, activation=activation)
    fusion_config = {**_fusion_config(fusion, text), **fusion_options, **(overrides.fusion or {})}
    num_frames = _num_frames(clip, fusion, overrides)
    if any(".net." in name for name in clip):
        vision["temporal"] = "shift"
    if "visual.time_embedding" in clip:
        vision["temporal"] = "joint"
    contracts = family_contracts(
        "actionclip",
        num_frames=num_frames,
        image_size=vision["image_size"],
        context_length=text["context_length"],
        logit_scale=0.0,  # ActionCLIP evaluates with a fixed scale of 100, so the stored one is not used
    )
    return Checkpoint(
        family="actionclip",
        model_config={"num_frames": num_frames, "vision": vision, "text": text, "fusion": fusion_config},
        weights={
            **rename_weights(clip, from_official),
            **{FUSION_PREFIX + name: item for name, item in fusion.items()},
        },
        **vars(contracts),
    )


def _fusion_config(weights: Mapping[str, Tensor], text: Mapping[str, Any]) -> dict[str, Any]:
    if not weights:
        return {"kind": "meanP"}
    kinds = [kind for kind, key in FUSION_KEYS.items() if key in weights]
    if len(kinds) != 1:
        raise CheckpointError(
            "fusion_model_state_dict: the kind of fusion model cannot be identified "
            f"(known are {', '.join(FUSION_KEYS)}); found keys {', '.join(sorted(weights)[:12])}"
        )
    kind = kinds[0]
    config: dict[str, Any] = {"kind": kind}
    if POSITIONS in weights:
        config["positions"] = weights[POSITIONS].shape[0]
    if kind == "Transf":
        config["layers"] = count_blocks(weights, "transformer.resblocks.")
        config["heads"] = text["heads"]  # as in ActionCLIP, even if the width of the fusion model differs
    if kind == "Transf_cls":
        config["layers"] = count_blocks(weights, "transformer.transformer_enc.layers.")
        config["hidden"] = weights["transformer.transformer_enc.layers.0.linear1.weight"].shape[0]
    return config


def _num_frames(clip: Mapping[str, Tensor], fusion: Mapping[str, Tensor], overrides: Overrides) -> int:
    stored = None
    if "transformer.pos_embed" in fusion:
        stored = fusion["transformer.pos_embed"].shape[1] - 1
    elif "visual.time_embedding" in clip:
        stored = clip["visual.time_embedding"].shape[0]
    if stored is not None and overrides.num_frames not in (None, stored):
        raise CheckpointError(f"num_frames: the weights require {stored}, but {overrides.num_frames} was requested")
    return stored or overrides.num_frames or ASSUMED_FRAMES


def _is_half(name: str) -> bool:
    if name in ("visual.proj", "text_projection"):
        return True
    return any(part in name for part in (".attn.", ".mlp.", "conv1."))
