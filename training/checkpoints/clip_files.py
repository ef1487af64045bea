"""Weights of plain CLIP models, OpenAI's and open_clip's, as a start for any of the three families.

Plain ViTs become our own towers; whatever else open_clip knows needs its name (`arch`). Parts a family adds are drawn
fresh from a seed, as its training would start.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from torch import Tensor

from serve.contract import Interpolation, PreprocessContract, ResizeRule, TextCleaning, TextContract
from training.checkpoints.names import FRESH, from_official, from_open_clip, renamed, without_prefix
from training.checkpoints.overrides import ASSUMED_FRAMES, Overrides
from training.checkpoints.own import Checkpoint, CheckpointError, build_outline, shapes_of
from training.checkpoints.sizes import text_config, vision_config
from training.checkpoints.systems import (
    VIDEO_TEMPLATES,
    Protocol,
    actionclip_protocol,
    clip_preprocess,
    clip_protocol,
    clip_text,
    fresh_protocol,
)
from training.models.base import INITIAL_LOGIT_SCALE, TextTower
from training.models.open_clip_towers import architecture, open_clip_model_config
from training.models.registry import build_model

PLAIN_MARK = "visual.transformer.resblocks.0.attn.in_proj_weight"
CUSTOM_MARK = "text.token_embedding.weight"
INTERPOLATIONS: Mapping[str, Interpolation] = {"bicubic": "pillow_bicubic", "bilinear": "pillow_bilinear"}
RESIZES: Mapping[str, ResizeRule] = {"shortest": "shortest_side", "squash": "squash"}
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")


def clip_weights_of(document: object) -> Mapping[str, Any] | None:
    """The state dict in a loaded file, if it is one of a CLIP model: bare, or of open_clip's trainer."""
    if not isinstance(document, Mapping):
        return None
    inner = document.get("state_dict", document)
    if not isinstance(inner, Mapping):
        return None
    names = {str(name).removeprefix("module.") for name in inner}
    has_vision = any(name.startswith("visual.") for name in names)
    return inner if has_vision and names & {"token_embedding.weight", CUSTOM_MARK} else None


def read_clip(weights: Mapping[str, Tensor], overrides: Overrides) -> Checkpoint:
    """The checkpoint of a state dict, as `overrides.family` (plain frame-averaged CLIP where it is not told).

    Raises:
        CheckpointError: an architecture that cannot be told from its tensors, or keys that do not fit.
    """
    weights = without_prefix(weights, "module.")
    changes = architecture(overrides.arch) if overrides.arch else {}
    plain = _as_plain(weights)
    if plain is None or "timm_model_name" in changes.get("vision_cfg", {}):
        return _read_by_name(weights, overrides)
    return _read_plain(plain, overrides, quick_gelu=changes.get("quick_gelu", overrides.arch is None))


def _as_plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights under OpenAI's names, if they are those of a plain ViT and a causal text tower."""
    if PLAIN_MARK not in weights:
        return None
    if CUSTOM_MARK in weights:
        return {name.removeprefix("text."): item for name, item in weights.items()}
    return dict(weights)


def _read_plain(weights: dict[str, Tensor], overrides: Overrides, *, quick_gelu: bool) -> Checkpoint:
    if "logit_scale" in weights:
        weights["logit_scale"] = weights["logit_scale"].reshape(())
    activation = overrides.activation or ("quick_gelu" if quick_gelu else "gelu")
    family, num_frames = overrides.family or "clip", overrides.num_frames or ASSUMED_FRAMES
    vision = vision_config(weights, heads=overrides.vision_heads, activation=activation)
    text = text_config(weights, heads=overrides.text_heads, activation=activation)
    config: dict[str, Any] = {"num_frames": num_frames, "vision": vision, "text": text}
    if family == "actionclip":
        config["fusion"] = {"kind": "meanP", **(overrides.fusion or {})}
    if family == "xclip":
        config["mit"] = {"heads": overrides.mit_heads} if overrides.mit_heads else {}
        asks_prompts = overrides.prompts is not False
        config["prompts"] = (
            ({"heads": overrides.prompt_heads} if overrides.prompt_heads else {}) if asks_prompts else None
        )
    protocol = fresh_protocol(
        family,
        num_frames=num_frames,
        image_size=vision["image_size"],
        context_length=text["context_length"],
        logit_scale=_scale(weights),
    )
    named = with_fresh_parts(family, config, renamed(weights, from_official), seed=overrides.seed or 0)
    return Checkpoint(family=family, model_config=config, weights=named, **vars(protocol))


def _read_by_name(weights: Mapping[str, Tensor], overrides: Overrides) -> Checkpoint:
    if overrides.arch is None:
        raise CheckpointError("these weights are of no plain CLIP ViT: name their open_clip architecture (arch)")
    family, num_frames = overrides.family or "clip", overrides.num_frames or ASSUMED_FRAMES
    changes = {"quick_gelu": overrides.activation == "quick_gelu"} if overrides.activation else None
    config = open_clip_model_config(overrides.arch, num_frames=num_frames, changes=changes)
    named = renamed(weights, from_open_clip)
    for name in ("logit_scale", "logit_bias"):
        if name in named:
            named[name] = named[name].reshape(())
    outline = build_outline("clip", config)
    text = open_clip_text(overrides.arch, outline.text)
    if family == "actionclip":
        config["fusion"] = {"kind": "meanP", **(overrides.fusion or {})}
        asked = actionclip_protocol(
            num_frames=num_frames, image_size=outline.image_size, context_length=text.context_length
        )
        preprocess = open_clip_preprocess(overrides, outline.image_size)
        protocol = Protocol(
            sampling=asked.sampling,
            preprocess=preprocess,
            text=replace(text, templates=asked.text.templates),
            scoring=asked.scoring,
        )
    elif family == "clip":
        protocol = clip_protocol(
            num_frames=num_frames,
            preprocess=open_clip_preprocess(overrides, outline.image_size),
            text=text,
            logit_scale=_scale(named),
            logit_bias=float(named["logit_bias"]) if "logit_bias" in named else None,
            sampling_rule="ends" if overrides.arch.startswith("PE-Core") else "centres",
        )
    else:
        raise CheckpointError(f"family: {family} is built on plain CLIP ViTs, found {overrides.arch}")
    named = with_fresh_parts(family, config, named, seed=overrides.seed or 0)
    return Checkpoint(family=family, model_config=config, weights=named, **vars(protocol))


def with_fresh_parts(
    family: str, model_config: Mapping[str, Any], weights: Mapping[str, Tensor], *, seed: int
) -> dict[str, Tensor]:
    """The weights, with what the family adds to CLIP drawn from `seed`; anything else missing stays missing."""
    expected = shapes_of(build_outline(family, model_config))
    added = [name for name in expected if name not in weights and any(part in name for part in FRESH)]
    if not added:
        return dict(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build_model(family, model_config).state_dict()
    return {**weights, **{name: fresh[name] for name in added}}


def open_clip_preprocess(overrides: Overrides, image_size: int) -> PreprocessContract:
    """What the weights were trained to see: as overridden, or as all published weights of the architecture agree.

    Raises:
        CheckpointError: they do not agree, or follow a rule serving does not have.
    """
    if overrides.preprocess is not None:
        return overrides.preprocess
    arch = overrides.arch or ""
    tags = list_pretrained_tags_by_model(arch)
    found = [{key: get_pretrained_cfg(arch, tag).get(key) for key in PREPROCESS_KEYS} for tag in tags]
    if not found:
        return clip_preprocess(image_size)
    if any(item != found[0] for item in found):
        raise CheckpointError(f"preprocess: the weights open_clip publishes for {arch} differ in it; give it")
    settings = found[0]
    resize, interpolation = settings["resize_mode"] or "shortest", settings["interpolation"] or "bicubic"
    if resize not in RESIZES or interpolation not in INTERPOLATIONS:
        raise CheckpointError(f"preprocess: {arch} uses {resize} and {interpolation}, which serving does not have")
    usual = clip_preprocess(image_size)
    return replace(
        usual,
        resize=RESIZES[resize],
        interpolation=INTERPOLATIONS[interpolation],
        mean=tuple(settings["mean"] or usual.mean),
        std=tuple(settings["std"] or usual.std),
    )


def open_clip_text(arch: str, tower: TextTower) -> TextContract:
    """What the text tower of an open_clip architecture takes.

    Raises:
        CheckpointError: its texts are cleaned in a way serving does not have.
    """
    settings = architecture(arch)["text_cfg"]
    if settings.get("hf_tokenizer_name") is None:
        usual = clip_text(tower.context_length, VIDEO_TEMPLATES)
        return replace(usual, dynamic_length=tower.is_causal)
    return TextContract(
        tokenizer="tokenizers",  # its file comes by itself: hubs hold it, not the weights
        context_length=tower.context_length,
        dynamic_length=tower.is_causal,
        pad_id=settings.get("pad_id", 0),
        cleaning=_cleaning(arch, settings.get("tokenizer_kwargs", {}).get("clean")),
        templates=VIDEO_TEMPLATES,
    )


def _cleaning(arch: str, found: str | None) -> TextCleaning:
    if found in (None, "none"):
        return "none"
    if found == "canonicalize":
        return "canonicalize"
    raise CheckpointError(f"tokenizer_kwargs.clean: {arch} uses {found!r}, which serving does not have")


def _scale(weights: Mapping[str, Tensor]) -> float:
    scale = weights.get("logit_scale")
    if scale is None:
        return INITIAL_LOGIT_SCALE  # the strict check names the missing key
    return float(scale)
