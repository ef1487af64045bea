"""Read open_clip's table of pretrained weights: activation, preprocessing and file hashes.

Activation and preprocessing depend on the weights, not on the architecture. For weights of unknown origin, they are
known only if all published weights of the architecture agree; otherwise the caller has to give them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from serve.contract import Interpolation, PreprocessContract, ResizeRule
from training.checkpoints.downloads import hash_in_url
from training.checkpoints.native_format import CheckpointError
from training.models.open_clip_towers import architecture_config
from training.recipes import CLIP

Activation = Literal["quick_gelu", "gelu"]

INTERPOLATIONS: Mapping[str, Interpolation] = {"bicubic": "pillow_bicubic", "bilinear": "pillow_bilinear"}
RESIZES: Mapping[str, ResizeRule] = {"shortest": "shortest_side", "squash": "squash"}
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")
QUICK_SUFFIX = "-quickgelu"


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """An entry in open_clip's table of pretrained weights."""

    arch: str
    tag: str


def published_tags(arch: str) -> list[str]:
    """Return the pretrained tags of an architecture."""
    return list(list_pretrained_tags_by_model(arch))


def tag_settings(arch: str, tag: str) -> dict[str, Any]:
    """Return the settings of a pretrained tag in open_clip's table.

    Raises:
        CheckpointError: the architecture has no such tag.
    """
    tags = published_tags(arch)
    if tag not in tags:
        raise CheckpointError(f"{tag!r} is not a pretrained tag of {arch}; its tags: {', '.join(tags) or 'none'}")
    return dict(get_pretrained_cfg(arch, tag))


def tag_activation(arch: str, tag: str) -> Activation:
    """Return the activation with which the weights of a tag were trained."""
    settings = tag_settings(arch, tag)
    return _activation_name(settings.get("quick_gelu", architecture_config(arch).get("quick_gelu", False)))


def published_activations(arch: str) -> set[Activation]:
    """Return all activations of the published weights of an architecture, including the architecture's default.

    If there is an architecture `NAME-quickgelu`, weights of NAME may have either activation.
    """
    config = architecture_config(arch)
    activations = {tag_activation(arch, tag) for tag in published_tags(arch)} | {
        _activation_name(config.get("quick_gelu", False))
    }
    if arch + QUICK_SUFFIX in open_clip.list_models():
        activations.add("quick_gelu")
    return activations


def published_file(sha256: str) -> PublishedFile | None:
    """Return the entry whose URL contains this hash or its first digits, or None."""
    for prefix, entry in _published_hashes():
        if sha256.startswith(prefix):
            return entry
    return None


@lru_cache(maxsize=1)
def _published_hashes() -> tuple[tuple[str, PublishedFile], ...]:
    entries = []
    for arch in open_clip.list_models():
        for tag in published_tags(arch):
            prefix = hash_in_url(str(get_pretrained_cfg(arch, tag).get("url", "")))
            entries += [(prefix, PublishedFile(arch=arch, tag=tag))] if prefix else []
    return tuple(entries)


def _activation_name(is_quick: bool) -> Activation:
    return "quick_gelu" if is_quick else "gelu"


def common_preprocessing(archs: Sequence[str]) -> dict[str, Any]:
    """Return the preprocessing that all published weights of these architectures use; empty if there are none.

    Raises:
        CheckpointError: the published weights differ.
    """
    entries = [(arch, tag) for arch in archs for tag in published_tags(arch)]
    choices = [{key: get_pretrained_cfg(arch, tag).get(key) for key in PREPROCESS_KEYS} for arch, tag in entries]
    if any(item != choices[0] for item in choices):
        raise CheckpointError(
            f"preprocess: the weights open_clip publishes for {_shorten(archs)} were trained with different "
            "preprocessing; select one with --preprocess-tag TAG, one of "
            f"{', '.join(dict.fromkeys(tag for _, tag in entries))}"
        )
    return {key: value for key, value in choices[0].items() if value is not None} if choices else {}


def preprocess_contract(settings: Mapping[str, Any], *, image_size: int) -> PreprocessContract:
    """Convert open_clip's preprocessing settings to a contract; the model input is square with `image_size` pixels.

    For "shortest", open_clip resizes the shorter side to the input size and crops the centre like torchvision: the
    longer side is truncated to an integer, and the corner of the crop is rounded half to even.

    Raises:
        CheckpointError: serving does not support the resizing or the interpolation.
    """
    resize, interpolation = settings.get("resize_mode", "shortest"), settings.get("interpolation", "bicubic")
    if resize not in RESIZES:
        raise CheckpointError(f"resize_mode of open_clip must be one of {', '.join(RESIZES)}, got {resize!r}")
    if interpolation not in INTERPOLATIONS:
        raise CheckpointError(
            f"interpolation of open_clip must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}"
        )
    default = CLIP.preprocess(image_size)
    return PreprocessContract(
        image_size=image_size,
        resize=RESIZES[resize],
        short_side=image_size,
        interpolation=INTERPOLATIONS[interpolation],
        size_rounding=default.size_rounding,
        crop_rounding=default.crop_rounding,
        mean=_three_floats(settings.get("mean", default.mean)),
        std=_three_floats(settings.get("std", default.std)),
    )


def _three_floats(values: Iterable[Any]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _shorten(archs: Sequence[str]) -> str:
    return ", ".join(archs[:4]) + (" and others" if len(archs) > 4 else "")
