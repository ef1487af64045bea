"""Read and write checkpoints of X-CLIP: `model` with X-CLIP's names, and a pickled configuration, which is ignored."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.checkpoints.actionclip_files import require_clip_towers
from training.checkpoints.foreign_files import require_tensors
from training.checkpoints.layouts import find_weights
from training.checkpoints.names import from_official, rename_weights, to_official
from training.checkpoints.native_format import Checkpoint, CheckpointError
from training.checkpoints.overrides import Overrides
from training.checkpoints.sizes import count_blocks, default_heads, derive_text_config, derive_vision_config
from training.recipes import family_contracts

FRAME_POSITIONS = "mit.positional_embedding"


def is_xclip(weights: Mapping[str, Any]) -> bool:
    """Return whether a state dict is that of an X-CLIP model."""
    return FRAME_POSITIONS in weights


def read_official_xclip(document: Mapping[str, Any], overrides: Overrides) -> Checkpoint:
    """Return the checkpoint of a loaded official file, or of a state dict.

    Raises:
        CheckpointError: keys are missing or unexpected; the message lists them.
    """
    state_dict = find_weights(document, is_xclip, key=overrides.weights_key)
    if state_dict is None:
        raise CheckpointError(f"the weights are not of X-CLIP: {FRAME_POSITIONS} is missing")
    return xclip_checkpoint(require_tensors(state_dict.weights, state_dict.key or "the file"), overrides)


def xclip_checkpoint(weights: Mapping[str, Tensor], overrides: Overrides) -> Checkpoint:
    """Create a checkpoint from weights with the official names.

    Raises:
        CheckpointError: keys are missing, or `num_frames` contradicts the weights.
    """
    activation = overrides.activation or "quick_gelu"
    vision = derive_vision_config(weights, heads=overrides.vision_heads, activation=activation)
    text = derive_text_config(weights, heads=overrides.text_heads, activation=activation)
    num_frames, embed_dim = weights[FRAME_POSITIONS].shape[1], vision["embed_dim"]
    if overrides.num_frames not in (None, num_frames):
        raise CheckpointError(f"num_frames: the weights require {num_frames}, but {overrides.num_frames} was requested")
    mit = {
        "layers": count_blocks(weights, "mit.resblocks."),
        "heads": overrides.mit_heads or default_heads(embed_dim, "mit_heads"),
        **_mlp_width(weights.get("mit.resblocks.0.mlp.c_fc.weight")),
    }
    prompts = None
    if "prompts_generator.alpha" in weights:
        prompts = {
            "layers": count_blocks(weights, "prompts_generator.decoder."),
            "heads": overrides.prompt_heads or default_heads(embed_dim, "prompt_heads"),
            **_mlp_width(weights.get("prompts_generator.decoder.0.mlp.0.weight")),
        }
    if "logit_scale" not in weights:
        raise CheckpointError("missing key: logit_scale")
    contracts = family_contracts(
        "xclip",
        num_frames=num_frames,
        image_size=vision["image_size"],
        context_length=text["context_length"],
        logit_scale=_scale(weights["logit_scale"]),
    )
    return Checkpoint(
        family="xclip",
        model_config={"num_frames": num_frames, "vision": vision, "text": text, "mit": mit, "prompts": prompts},
        weights=rename_weights(weights, from_official),
        **vars(contracts),
    )


def to_official_xclip(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a document for torch.save in X-CLIP's layout.

    Raises:
        CheckpointError: the model is not an X-CLIP model with CLIP towers.
    """
    require_clip_towers(checkpoint, "xclip")
    return {"model": rename_weights(checkpoint.weights, to_official)}


def _mlp_width(weight: Tensor | None) -> dict[str, int]:
    if weight is None or weight.shape[0] == 4 * weight.shape[1]:
        return {}
    return {"mlp_width": weight.shape[0]}


def _scale(scale: Tensor) -> float:
    return 0.0 if scale.is_meta else float(scale)
