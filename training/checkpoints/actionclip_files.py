"""Files of ActionCLIP and of its port in mmaction2.

Official: {model_state_dict: CLIP's names, fusion_model_state_dict: `module.` before the head's names, ...}.
mmaction2: {state_dict: `clip.*`, `adapter.*`}, a position table of T rows, LayerNorm eps 1e-5 in the head.
T is stored only by the heads with positions; otherwise 8 is assumed.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from training.checkpoints.foreign_files import tensors_of
from training.checkpoints.layouts import without_wrappers
from training.checkpoints.names import FUSION, from_official, renamed, to_official
from training.checkpoints.native_format import Checkpoint, CheckpointError
from training.checkpoints.overrides import ASSUMED_FRAMES, Overrides
from training.checkpoints.sizes import count_blocks, text_config, vision_config
from training.recipes import family_contracts

HEAD_MARKS = {
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
        CheckpointError: keys are missing or unexpected; names them.
    """
    clip = without_wrappers(tensors_of(document["model_state_dict"], "model_state_dict"))
    head = without_wrappers(tensors_of(document["fusion_model_state_dict"], "fusion_model_state_dict"))
    return _checkpoint(clip, head, overrides, head_changes={})


def read_mmaction_actionclip(document: Mapping[str, Any], overrides: Overrides) -> Checkpoint:
    """Return the checkpoint of a loaded file of mmaction2.

    Raises:
        CheckpointError: keys are missing or unexpected; names them.
    """
    weights = tensors_of(document["state_dict"], "state_dict")
    others = sorted(name for name in weights if not name.startswith(("clip.", "adapter.", "data_preprocessor.")))
    if others:
        raise CheckpointError(f"state_dict: {len(others)} unexpected: {', '.join(others[:12])}")
    clip = {name.removeprefix("clip."): item for name, item in weights.items() if name.startswith("clip.")}
    head = {name.removeprefix("adapter."): item for name, item in weights.items() if name.startswith("adapter.")}
    changes = {"eps": MMACTION_EPS} if head else {}
    if POSITIONS in head and overrides.num_frames is None:
        overrides = replace(overrides, num_frames=head[POSITIONS].shape[0])
    return _checkpoint(clip, head, overrides, head_changes=changes)


def to_official_actionclip(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a document in ActionCLIP's layout for torch.save; its readers accept float32 and mixed precision.

    Raises:
        CheckpointError: the model is not an ActionCLIP with CLIP's towers.
    """
    require_clip_towers(checkpoint, "actionclip")
    weights = checkpoint.weights
    head = {name.removeprefix(FUSION): item for name, item in weights.items() if name.startswith(FUSION)}
    clip = {name: item for name, item in weights.items() if not name.startswith(FUSION)}
    return {
        "epoch": 0,
        "model_state_dict": renamed(clip, to_official),
        "fusion_model_state_dict": {f"module.{name}": item for name, item in head.items()},
    }


def as_saved_on_gpu(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert `model_state_dict` to the mixed dtypes in which the original trains on a GPU.

    Convolution, linear layers, attention and both projections are float16; LayerNorms, tables and the scale float32.
    """
    return {name: item.to(torch.float16 if _is_half(name) else torch.float32) for name, item in weights.items()}


def require_clip_towers(checkpoint: Checkpoint, family: str) -> None:
    """Require a family, with towers that the original program has.

    Raises:
        CheckpointError: the family or the towers differ.
    """
    kinds = {checkpoint.model_config[part]["kind"] for part in ("vision", "text")}
    if checkpoint.family != family or kinds != {"clip"}:
        raise CheckpointError(
            f"this layout needs {family} on clip towers, found {checkpoint.family} on {', '.join(sorted(kinds))}"
        )


def _checkpoint(
    clip: dict[str, Tensor], head: dict[str, Tensor], overrides: Overrides, *, head_changes: Mapping[str, Any]
) -> Checkpoint:
    activation = overrides.activation or "quick_gelu"
    vision = vision_config(clip, heads=overrides.vision_heads, activation=activation)
    text = text_config(clip, heads=overrides.text_heads, activation=activation)
    fusion = {**_fusion_config(head, text), **head_changes, **(overrides.fusion or {})}
    num_frames = _num_frames(clip, head, overrides)
    if any(".net." in name for name in clip):
        vision["temporal"] = "shift"
    if "visual.time_embedding" in clip:
        vision["temporal"] = "joint"
    protocol = family_contracts(
        "actionclip",
        num_frames=num_frames,
        image_size=vision["image_size"],
        context_length=text["context_length"],
        logit_scale=0.0,  # its evaluation fixes the scale
    )
    return Checkpoint(
        family="actionclip",
        model_config={"num_frames": num_frames, "vision": vision, "text": text, "fusion": fusion},
        weights={**renamed(clip, from_official), **{FUSION + name: item for name, item in head.items()}},
        **vars(protocol),
    )


def _fusion_config(head: Mapping[str, Tensor], text: Mapping[str, Any]) -> dict[str, Any]:
    if not head:
        return {"kind": "meanP"}
    found = [kind for kind, mark in HEAD_MARKS.items() if mark in head]
    if len(found) != 1:
        raise CheckpointError(
            f"fusion_model_state_dict: none of the heads {', '.join(HEAD_MARKS)}; found {', '.join(sorted(head)[:12])}"
        )
    kind = found[0]
    config: dict[str, Any] = {"kind": kind}
    if POSITIONS in head:
        config["positions"] = head[POSITIONS].shape[0]
    if kind == "Transf":
        config["layers"] = count_blocks(head, "transformer.resblocks.")
        config["heads"] = text["heads"]  # as in the original, although the head's width may differ
    if kind == "Transf_cls":
        config["layers"] = count_blocks(head, "transformer.transformer_enc.layers.")
        config["hidden"] = head["transformer.transformer_enc.layers.0.linear1.weight"].shape[0]
    return config


def _num_frames(clip: Mapping[str, Tensor], head: Mapping[str, Tensor], overrides: Overrides) -> int:
    stored = None
    if "transformer.pos_embed" in head:
        stored = head["transformer.pos_embed"].shape[1] - 1
    elif "visual.time_embedding" in clip:
        stored = clip["visual.time_embedding"].shape[0]
    if stored is not None and overrides.num_frames not in (None, stored):
        raise CheckpointError(f"num_frames: the weights are for {stored}, requested are {overrides.num_frames}")
    return stored or overrides.num_frames or ASSUMED_FRAMES


def _is_half(name: str) -> bool:
    if name in ("visual.proj", "text_projection"):
        return True
    return any(part in name for part in (".attn.", ".mlp.", "conv1."))
