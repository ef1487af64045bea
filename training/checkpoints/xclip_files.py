"""Files of X-CLIP: {model: X-CLIP's names, config: a pickled object that is never created, ...}."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.checkpoints.actionclip_files import require_clip_towers
from training.checkpoints.foreign_files import tensors_of
from training.checkpoints.layouts import find_weights
from training.checkpoints.names import from_official, renamed, to_official
from training.checkpoints.native_format import Checkpoint, CheckpointError
from training.checkpoints.overrides import Overrides
from training.checkpoints.sizes import count_blocks, heads_of, text_config, vision_config
from training.recipes import family_contracts

FRAME_POSITIONS = "mit.positional_embedding"


def is_xclip(weights: Mapping[str, Any]) -> bool:
    """Return whether a state dict is that of X-CLIP."""
    return FRAME_POSITIONS in weights


def read_official_xclip(document: Mapping[str, Any], overrides: Overrides) -> Checkpoint:
    """Return the checkpoint of a loaded official file, or of its weights alone.

    Raises:
        CheckpointError: keys are missing or unexpected; names them.
    """
    found = find_weights(document, is_xclip, key=overrides.weights_key)
    if found is None:
        raise CheckpointError(f"not weights of X-CLIP: {FRAME_POSITIONS} is missing")
    return xclip_checkpoint(tensors_of(found.weights, found.key or "the file"), overrides)


def xclip_checkpoint(weights: Mapping[str, Tensor], overrides: Overrides) -> Checkpoint:
    """Return the checkpoint of weights under official names.

    Raises:
        CheckpointError: keys are missing (names them), or `num_frames` differs from the weights.
    """
    activation = overrides.activation or "quick_gelu"
    vision = vision_config(weights, heads=overrides.vision_heads, activation=activation)
    text = text_config(weights, heads=overrides.text_heads, activation=activation)
    num_frames, embed_dim = weights[FRAME_POSITIONS].shape[1], vision["embed_dim"]
    if overrides.num_frames not in (None, num_frames):
        raise CheckpointError(f"num_frames: the weights are for {num_frames}, requested are {overrides.num_frames}")
    mit = {
        "layers": count_blocks(weights, "mit.resblocks."),
        "heads": overrides.mit_heads or heads_of(embed_dim, "mit_heads"),
        **_hidden(weights.get("mit.resblocks.0.mlp.c_fc.weight")),
    }
    prompts = None
    if "prompts_generator.alpha" in weights:
        prompts = {
            "layers": count_blocks(weights, "prompts_generator.decoder."),
            "heads": overrides.prompt_heads or heads_of(embed_dim, "prompt_heads"),
            **_hidden(weights.get("prompts_generator.decoder.0.mlp.0.weight")),
        }
    if "logit_scale" not in weights:
        raise CheckpointError("1 missing: logit_scale")
    protocol = family_contracts(
        "xclip",
        num_frames=num_frames,
        image_size=vision["image_size"],
        context_length=text["context_length"],
        logit_scale=_value(weights["logit_scale"]),
    )
    return Checkpoint(
        family="xclip",
        model_config={"num_frames": num_frames, "vision": vision, "text": text, "mit": mit, "prompts": prompts},
        weights=renamed(weights, from_official),
        **vars(protocol),
    )


def to_official_xclip(checkpoint: Checkpoint) -> dict[str, Any]:
    """A document of X-CLIP's layout, ready for torch.save.

    Raises:
        CheckpointError: the model is no X-CLIP.
    """
    require_clip_towers(checkpoint, "xclip")
    return {"model": renamed(checkpoint.weights, to_official)}


def _hidden(weight: Tensor | None) -> dict[str, int]:
    if weight is None or weight.shape[0] == 4 * weight.shape[1]:
        return {}
    return {"mlp_width": weight.shape[0]}


def _value(scale: Tensor) -> float:
    return 0.0 if scale.is_meta else float(scale)
