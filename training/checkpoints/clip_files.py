"""Read weights of CLIP models of OpenAI and open_clip as a start for any of the three families.

Plain ViTs are loaded into the towers of this project; other open_clip architectures need their name (`arch`). Parts
that a family adds are initialised from a seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from serve.contract import SamplingContract
from training.checkpoints.names import FRESH, from_official, from_open_clip, renamed
from training.checkpoints.native_format import Checkpoint, CheckpointError, build_outline, shapes_of
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
from training.checkpoints.origins import UNKNOWN, WeightsOrigin, decide_activation, decide_preprocess
from training.checkpoints.overrides import ASSUMED_FRAMES, Overrides
from training.checkpoints.sizes import heads_of, text_config, vision_config
from training.models.base import INITIAL_LOGIT_SCALE
from training.models.open_clip_towers import architecture, open_clip_model_config
from training.models.registry import build_model
from training.recipes import ACTIONCLIP, ModelContracts, clip_contracts, family_contracts

PLAIN_MARK = "visual.transformer.resblocks.0.attn.in_proj_weight"
CUSTOM_MARK = "text.token_embedding.weight"


def is_clip(weights: Mapping[str, Any]) -> bool:
    """Return whether a state dict is that of a CLIP model, with OpenAI's names or in open_clip's two-tower layout."""
    has_vision = any(name.startswith("visual.") for name in weights)
    return has_vision and bool(weights.keys() & {"token_embedding.weight", CUSTOM_MARK})


def read_clip(weights: Mapping[str, Tensor], overrides: Overrides, origin: WeightsOrigin = UNKNOWN) -> Checkpoint:
    """Return the checkpoint of a state dict, as `overrides.family` (default: frame-averaged CLIP).

    Raises:
        CheckpointError: the architecture or the activation cannot be determined, or keys do not fit.
    """
    _check_architecture(overrides, origin)
    arch = overrides.arch or origin.arch
    config = origin.config or (architecture(arch) if arch else None)
    plain = _without_architecture(weights)
    if plain is None or (config is not None and not is_plain(config)):
        return _read_by_name(weights, overrides, origin)
    return _read_plain(plain, overrides, origin, config)


def _check_architecture(overrides: Overrides, origin: WeightsOrigin) -> None:
    """Refuse another architecture than that of the origin; the activation may differ."""
    if overrides.arch is None or (origin.arch is None and origin.config is None):
        return
    known = origin.config or architecture(origin.arch or "")
    if {**architecture(overrides.arch), "quick_gelu": None} != {**known, "quick_gelu": None}:
        raise CheckpointError(
            f"arch: {overrides.arch} is given, but {origin.source}, of {origin.arch or 'another model'}"
        )
    if architecture(overrides.arch).get("quick_gelu") and origin.activation == "gelu":
        raise CheckpointError(f"arch: {overrides.arch} has quick_gelu, but {origin.source}: gelu")


def _without_architecture(weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the weights with OpenAI's names if they are those of a plain ViT and a causal text tower."""
    if PLAIN_MARK not in weights:
        return None
    if CUSTOM_MARK in weights:
        return {name.removeprefix("text."): item for name, item in weights.items()}
    return dict(weights)


def _read_plain(
    weights: dict[str, Tensor], overrides: Overrides, origin: WeightsOrigin, config: Mapping[str, Any] | None
) -> Checkpoint:
    if "logit_scale" in weights:
        weights["logit_scale"] = weights["logit_scale"].reshape(())
    vision = vision_config(weights, heads=1, activation="")
    text = text_config(weights, heads=1, activation="")
    if text["vocab_size"] > CLIP_VOCABULARY:
        raise CheckpointError(
            f"token_embedding.weight: CLIP's tokenizer makes {CLIP_VOCABULARY} tokens, the weights have "
            f"{text['vocab_size']} rows; name their open_clip architecture (--arch)"
        )
    sizes = tensor_sizes(vision, text)
    arch = overrides.arch or origin.arch
    archs = (arch,) if arch else architectures_of(sizes)
    activation, source = decide_activation(origin, overrides, archs)
    if config is not None:
        _check_sizes(plain_sizes(config), sizes, arch or "the configuration beside the weights")
    heads = _plain_heads(vision["width"], text["width"], overrides, origin, config, archs)
    vision |= {"heads": heads[0], "activation": activation}
    text |= {"heads": heads[1], "activation": activation}
    family, num_frames = overrides.family or "clip", overrides.num_frames or ASSUMED_FRAMES
    model_config = {"num_frames": num_frames, "vision": vision, "text": text, **_family_parts(family, overrides)}
    protocol = family_contracts(
        family,
        num_frames=num_frames,
        image_size=vision["image_size"],
        context_length=text["context_length"],
        logit_scale=_scale(weights),
    )
    if family == "clip":
        preprocess = decide_preprocess(origin, overrides, archs, image_size=vision["image_size"])
        protocol = replace(protocol, preprocess=preprocess)
    named = with_family_parts(family, model_config, renamed(weights, from_official), seed=overrides.seed or 0)
    return Checkpoint(
        family=family,
        model_config=model_config,
        weights=named,
        provenance={"activation": {"value": activation, "source": source}},
        **vars(protocol),
    )


def _family_parts(family: str, overrides: Overrides) -> dict[str, Any]:
    """Return what the model configuration of a family adds to the towers."""
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
    """Return the attention heads of both towers: as given, else from the configuration, else width / 64."""
    known = origin.heads or (plain_heads(config) if config is not None else None)
    if known is None:
        choices = {plain_heads(architecture(arch)) for arch in archs}
        if len(choices) > 1:
            raise CheckpointError(f"heads: {', '.join(archs)} have these sizes but different heads; give --arch")
        known = next(iter(choices), None)
    vision, text = known or (None, None)
    return (
        overrides.vision_heads or vision or heads_of(vision_width, "vision_heads"),
        overrides.text_heads or text or heads_of(text_width, "text_heads"),
    )


def _check_sizes(expected: tuple[int, ...], found: tuple[int, ...], name: str) -> None:
    differing = [
        f"{what} {theirs} (the weights have {ours})"
        for what, theirs, ours in zip(SIZE_NAMES, expected, found, strict=True)
        if theirs != ours
    ]
    if differing:
        raise CheckpointError(f"arch: the weights are not of {name}, which has {', '.join(differing)}")


def _read_by_name(weights: Mapping[str, Tensor], overrides: Overrides, origin: WeightsOrigin) -> Checkpoint:
    arch = overrides.arch or origin.arch
    if arch is None:
        raise CheckpointError("these weights are not a plain CLIP ViT; name their open_clip architecture (--arch)")
    family, num_frames = overrides.family or "clip", overrides.num_frames or ASSUMED_FRAMES
    activation, source = decide_activation(origin, overrides, (arch,))
    is_quick = activation == "quick_gelu"
    changes = {"quick_gelu": is_quick} if is_quick != bool(architecture(arch).get("quick_gelu")) else None
    config = open_clip_model_config(arch, num_frames=num_frames, changes=changes)
    named = renamed(weights, from_open_clip)
    for name in ("logit_scale", "logit_bias"):
        if name in named:
            named[name] = named[name].reshape(())
    if family == "actionclip":
        config["fusion"] = {"kind": "meanP", **(overrides.fusion or {})}
    protocol = _protocol_by_name(arch, family, config, named, overrides, origin)
    named = with_family_parts(family, config, named, seed=overrides.seed or 0)
    return Checkpoint(
        family=family,
        model_config=config,
        weights=named,
        provenance={"activation": {"value": activation, "source": source}},
        **vars(protocol),
    )


def _protocol_by_name(
    arch: str,
    family: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    overrides: Overrides,
    origin: WeightsOrigin,
) -> ModelContracts:
    num_frames = int(config["num_frames"])
    outline = build_outline("clip", {name: item for name, item in config.items() if name != "fusion"})
    text = text_contract(architecture(arch)["text_cfg"], outline.text, name=arch)
    preprocess = decide_preprocess(origin, overrides, (arch,), image_size=outline.image_size)
    if family == "actionclip":
        return ModelContracts(
            sampling=SamplingContract(rule=ACTIONCLIP.sampling, num_segments=num_frames),
            preprocess=preprocess,
            text=replace(text, templates=ACTIONCLIP.templates),
            scoring=ACTIONCLIP.scoring(_scale(weights)),
        )
    if family != "clip":
        raise CheckpointError(f"family: {family} is built on plain CLIP ViTs, found {arch}")
    return clip_contracts(
        num_frames=num_frames,
        preprocess=preprocess,
        text=text,
        logit_scale=_scale(weights),
        logit_bias=float(weights["logit_bias"]) if "logit_bias" in weights else None,
        sampling_rule=sampling_rule(arch),
    )


def with_family_parts(
    family: str, model_config: Mapping[str, Any], weights: Mapping[str, Tensor], *, seed: int
) -> dict[str, Tensor]:
    """Add the parts that a family adds to CLIP, initialised from `seed`; other missing keys stay missing."""
    expected = shapes_of(build_outline(family, model_config))
    added = [name for name in expected if name not in weights and any(part in name for part in FRESH)]
    if not added:
        return dict(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build_model(family, model_config).state_dict()
    return {**weights, **{name: fresh[name] for name in added}}


def _scale(weights: Mapping[str, Tensor]) -> float:
    scale = weights.get("logit_scale")
    if scale is None:
        return INITIAL_LOGIT_SCALE  # the strict check reports the missing key
    return float(scale)
