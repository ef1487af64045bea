"""Read weights of CLIP models of OpenAI and open_clip as initial weights for any of the three families.

Plain ViTs are loaded into this project's towers; for other open_clip architectures, the name (`arch`) is required.
Parts that a family adds to CLIP are initialised from a seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from serve.contract import SamplingContract
from training.checkpoints.names import ADDED_PARTS, from_official, from_open_clip, rename_weights
from training.checkpoints.native_format import Checkpoint, CheckpointError, build_on_meta, weight_shapes
from training.checkpoints.open_clip_architectures import (
    CLIP_VOCABULARY,
    SIZE_NAMES,
    architectures_of,
    is_plain,
    plain_heads,
    plain_sizes,
    sampling_rule,
    tensor_sizes,
)
from training.checkpoints.open_clip_text import text_contract
from training.checkpoints.origins import UNKNOWN_ORIGIN, WeightsOrigin, decide_activation, decide_preprocess
from training.checkpoints.overrides import ASSUMED_FRAMES, Overrides
from training.checkpoints.sizes import default_heads, derive_text_config, derive_vision_config
from training.models.base import INITIAL_LOGIT_SCALE
from training.models.open_clip_towers import architecture_config, open_clip_model_config
from training.models.registry import build_model
from training.recipes import ACTIONCLIP, ModelContracts, clip_contracts, family_contracts

PLAIN_KEY = "visual.transformer.resblocks.0.attn.in_proj_weight"  # in OpenAI's ViTs and equal ones of open_clip
TEXT_TOWER_KEY = "text.token_embedding.weight"  # if the text tower is a separate module


def is_clip(weights: Mapping[str, Any]) -> bool:
    """Return whether a state dict is that of a CLIP model, with OpenAI's names or with a separate text tower."""
    has_vision = any(name.startswith("visual.") for name in weights)
    return has_vision and bool(weights.keys() & {"token_embedding.weight", TEXT_TOWER_KEY})


def read_clip(
    weights: Mapping[str, Tensor], overrides: Overrides, origin: WeightsOrigin = UNKNOWN_ORIGIN
) -> Checkpoint:
    """Return the checkpoint of a state dict, of the family `overrides.family` (default: frame-averaging CLIP).

    Raises:
        CheckpointError: the architecture or the activation cannot be determined, or the keys do not match.
    """
    _check_architecture(overrides, origin)
    arch = overrides.arch or origin.arch
    config = origin.config or (architecture_config(arch) if arch else None)
    plain = _plain_names(weights)
    if plain is None or (config is not None and not is_plain(config)):
        return _read_architecture(weights, overrides, origin)
    return _read_plain(plain, overrides, origin, config)


def _check_architecture(overrides: Overrides, origin: WeightsOrigin) -> None:
    """Check that the given architecture is that of the origin, except for its activation."""
    if overrides.arch is None or (origin.arch is None and origin.config is None):
        return
    known = origin.config or architecture_config(origin.arch or "")
    if {**architecture_config(overrides.arch), "quick_gelu": None} != {**known, "quick_gelu": None}:
        raise CheckpointError(
            f"arch: must be {origin.arch or 'that of the weights'} ({origin.source}), got {overrides.arch}"
        )
    if architecture_config(overrides.arch).get("quick_gelu") and origin.activation == "gelu":
        raise CheckpointError(f"arch: {overrides.arch} uses quick_gelu, but the weights use gelu ({origin.source})")


def _plain_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the weights under OpenAI's names if they are of a plain ViT and a causal text tower, else None."""
    if PLAIN_KEY not in weights:
        return None
    if TEXT_TOWER_KEY in weights:
        return {name.removeprefix("text."): item for name, item in weights.items()}
    return dict(weights)


def _read_plain(
    weights: dict[str, Tensor], overrides: Overrides, origin: WeightsOrigin, config: Mapping[str, Any] | None
) -> Checkpoint:
    if "logit_scale" in weights:
        weights["logit_scale"] = weights["logit_scale"].reshape(())
    vision = derive_vision_config(weights, heads=1, activation="")
    text = derive_text_config(weights, heads=1, activation="")
    if text["vocab_size"] > CLIP_VOCABULARY:
        raise CheckpointError(
            f"token_embedding.weight: CLIP's tokenizer has {CLIP_VOCABULARY} tokens, but the weights have "
            f"{text['vocab_size']} rows; give the open_clip architecture (--arch)"
        )
    sizes = tensor_sizes(vision, text)
    arch = overrides.arch or origin.arch
    archs = (arch,) if arch else architectures_of(sizes)
    activation, source = decide_activation(origin, overrides, archs)
    if config is not None:
        _check_sizes(plain_sizes(config), sizes, arch or "the configuration next to the weights")
    heads = _plain_heads(vision["width"], text["width"], overrides, origin, config, archs)
    vision |= {"heads": heads[0], "activation": activation}
    text |= {"heads": heads[1], "activation": activation}
    family, num_frames = overrides.family or "clip", overrides.num_frames or ASSUMED_FRAMES
    model_config = {"num_frames": num_frames, "vision": vision, "text": text, **_family_parts(family, overrides)}
    contracts = family_contracts(
        family,
        num_frames=num_frames,
        image_size=vision["image_size"],
        context_length=text["context_length"],
        logit_scale=_scale(weights),
    )
    if family == "clip":
        preprocess = decide_preprocess(origin, overrides, archs, image_size=vision["image_size"])
        contracts = replace(contracts, preprocess=preprocess)
    named = add_family_parts(family, model_config, rename_weights(weights, from_official), seed=overrides.seed or 0)
    return Checkpoint(
        family=family,
        model_config=model_config,
        weights=named,
        provenance={"activation": {"value": activation, "source": source}},
        **vars(contracts),
    )


def _family_parts(family: str, overrides: Overrides) -> dict[str, Any]:
    """Return the parts of the model configuration that a family adds to the towers."""
    if family == "actionclip":
        return {"fusion": {"kind": "meanP", **(overrides.fusion or {})}}
    if family != "xclip":
        return {}
    prompts = {"heads": overrides.prompt_heads} if overrides.prompt_heads else {}
    return {
        "mit": {"heads": overrides.mit_heads} if overrides.mit_heads else {},
        "prompts": None if overrides.prompts is False else prompts,
    }


def _plain_heads(
    vision_width: int,
    text_width: int,
    overrides: Overrides,
    origin: WeightsOrigin,
    config: Mapping[str, Any] | None,
    archs: Sequence[str],
) -> tuple[int, int]:
    """Return the numbers of attention heads of both towers, from the overrides, a configuration, or width / 64."""
    known = origin.heads or (plain_heads(config) if config is not None else None)
    if known is None:
        choices = {plain_heads(architecture_config(arch)) for arch in archs}
        if len(choices) > 1:
            raise CheckpointError(
                f"heads: {', '.join(archs)} have these sizes but different heads; give the architecture (--arch)"
            )
        known = next(iter(choices), None)
    vision, text = known or (None, None)
    return (
        overrides.vision_heads or vision or default_heads(vision_width, "vision_heads"),
        overrides.text_heads or text or default_heads(text_width, "text_heads"),
    )


def _check_sizes(expected: tuple[int, ...], actual: tuple[int, ...], name: str) -> None:
    differing = [
        f"{size_name} {wanted} (the weights have {got})"
        for size_name, wanted, got in zip(SIZE_NAMES, expected, actual, strict=True)
        if wanted != got
    ]
    if differing:
        raise CheckpointError(f"arch: the weights do not match {name}, which has {', '.join(differing)}")


def _read_architecture(weights: Mapping[str, Tensor], overrides: Overrides, origin: WeightsOrigin) -> Checkpoint:
    arch = overrides.arch or origin.arch
    if arch is None:
        raise CheckpointError("the weights are not of a plain CLIP ViT; give the open_clip architecture (--arch)")
    family, num_frames = overrides.family or "clip", overrides.num_frames or ASSUMED_FRAMES
    activation, source = decide_activation(origin, overrides, (arch,))
    is_quick = activation == "quick_gelu"
    changes = {"quick_gelu": is_quick} if is_quick != bool(architecture_config(arch).get("quick_gelu")) else None
    config = open_clip_model_config(arch, num_frames=num_frames, changes=changes)
    named = rename_weights(weights, from_open_clip)
    for name in ("logit_scale", "logit_bias"):
        if name in named:
            named[name] = named[name].reshape(())
    if family == "actionclip":
        config["fusion"] = {"kind": "meanP", **(overrides.fusion or {})}
    contracts = _architecture_contracts(arch, family, config, named, overrides, origin)
    named = add_family_parts(family, config, named, seed=overrides.seed or 0)
    return Checkpoint(
        family=family,
        model_config=config,
        weights=named,
        provenance={"activation": {"value": activation, "source": source}},
        **vars(contracts),
    )


def _architecture_contracts(
    arch: str,
    family: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    overrides: Overrides,
    origin: WeightsOrigin,
) -> ModelContracts:
    num_frames = int(config["num_frames"])
    outline = build_on_meta("clip", {name: item for name, item in config.items() if name != "fusion"})
    text = text_contract(architecture_config(arch)["text_cfg"], outline.text, name=arch)
    preprocess = decide_preprocess(origin, overrides, (arch,), image_size=outline.image_size)
    if family == "actionclip":
        return ModelContracts(
            sampling=SamplingContract(rule=ACTIONCLIP.sampling, num_segments=num_frames),
            preprocess=preprocess,
            text=replace(text, templates=ACTIONCLIP.templates),
            scoring=ACTIONCLIP.scoring(_scale(weights)),
        )
    if family != "clip":
        raise CheckpointError(f"family: {family} requires a plain CLIP ViT, got {arch}")
    return clip_contracts(
        num_frames=num_frames,
        preprocess=preprocess,
        text=text,
        logit_scale=_scale(weights),
        logit_bias=float(weights["logit_bias"]) if "logit_bias" in weights else None,
        sampling_rule=sampling_rule(arch),
    )


def add_family_parts(
    family: str, model_config: Mapping[str, Any], weights: Mapping[str, Tensor], *, seed: int
) -> dict[str, Tensor]:
    """Add the weights of the parts that a family adds to CLIP, initialised from `seed`; other keys may be missing."""
    expected = weight_shapes(build_on_meta(family, model_config))
    added = [name for name in expected if name not in weights and any(part in name for part in ADDED_PARTS)]
    if not added:
        return dict(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initial = build_model(family, model_config).state_dict()
    return {**weights, **{name: initial[name] for name in added}}


def _scale(weights: Mapping[str, Tensor]) -> float:
    scale = weights.get("logit_scale")
    if scale is None:
        return INITIAL_LOGIT_SCALE  # the check of all keys reports the missing one
    return float(scale)
