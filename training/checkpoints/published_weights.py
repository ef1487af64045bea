"""open_clip's table of pretrained weights: activation, preprocessing and file hashes.

Activation and preprocessing belong to the weights, not to the architecture. For weights of unknown origin they are
those that all published weights of the architecture share; if these differ, the caller has to give them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from serve.contract import Interpolation, PreprocessContract, ResizeRule
from training.checkpoints.downloads import address_hash
from training.checkpoints.native_format import CheckpointError
from training.models.open_clip_towers import architecture
from training.recipes import CLIP

Activation = Literal["quick_gelu", "gelu"]

INTERPOLATIONS: Mapping[str, Interpolation] = {"bicubic": "pillow_bicubic", "bilinear": "pillow_bilinear"}
RESIZES: Mapping[str, ResizeRule] = {"shortest": "shortest_side", "squash": "squash"}
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")
QUICK_SUFFIX = "-quickgelu"


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file of open_clip's table of pretrained weights."""

    arch: str
    tag: str


def published_tags(arch: str) -> list[str]:
    """Return the pretrained tags of an architecture."""
    return list(list_pretrained_tags_by_model(arch))


def tag_settings(arch: str, tag: str) -> dict[str, Any]:
    """Return open_clip's entry of a pretrained tag.

    Raises:
        CheckpointError: the architecture has no such tag.
    """
    tags = published_tags(arch)
    if tag not in tags:
        raise CheckpointError(f"{tag!r} is not a pretrained tag of {arch}; its tags: {', '.join(tags) or 'none'}")
    return dict(get_pretrained_cfg(arch, tag))


def tag_activation(arch: str, tag: str) -> Activation:
    """Return the activation that the weights of a tag were trained with."""
    settings = tag_settings(arch, tag)
    return _named(settings.get("quick_gelu", architecture(arch).get("quick_gelu", False)))


def published_activations(arch: str) -> set[Activation]:
    """Return all activations of published weights of an architecture, and its default.

    If there is an architecture `NAME-quickgelu`, weights of NAME exist with both activations.
    """
    config = architecture(arch)
    found = {tag_activation(arch, tag) for tag in published_tags(arch)} | {_named(config.get("quick_gelu", False))}
    if arch + QUICK_SUFFIX in open_clip.list_models():
        found.add("quick_gelu")
    return found


def published_file(sha256: str) -> PublishedFile | None:
    """Return the entry of open_clip's table whose address contains this hash or its first digits."""
    for start, item in _published_hashes():
        if sha256.startswith(start):
            return item
    return None


@lru_cache(maxsize=1)
def _published_hashes() -> tuple[tuple[str, PublishedFile], ...]:
    found = []
    for arch in open_clip.list_models():
        for tag in published_tags(arch):
            start = address_hash(str(get_pretrained_cfg(arch, tag).get("url", "")))
            found += [(start, PublishedFile(arch=arch, tag=tag))] if start else []
    return tuple(found)


def _named(is_quick: bool) -> Activation:
    return "quick_gelu" if is_quick else "gelu"


def agreed_preprocessing(archs: Sequence[str]) -> dict[str, Any]:
    """Return the preprocessing that all published weights of these architectures share; empty if there are none.

    Raises:
        CheckpointError: the published weights differ.
    """
    entries = [(arch, tag) for arch in archs for tag in published_tags(arch)]
    choices = [{key: get_pretrained_cfg(arch, tag).get(key) for key in PREPROCESS_KEYS} for arch, tag in entries]
    if any(item != choices[0] for item in choices):
        raise CheckpointError(
            f"preprocess: the weights open_clip publishes for {_shown(archs)} were trained with different "
            "preprocessing; select one with --preprocess-tag TAG, one of "
            f"{', '.join(dict.fromkeys(tag for _, tag in entries))}"
        )
    return {key: value for key, value in choices[0].items() if value is not None} if choices else {}


def preprocess_contract(settings: Mapping[str, Any], *, image_size: int) -> PreprocessContract:
    """Convert open_clip's preprocessing of a square input of `image_size` pixels to a contract.

    With "shortest" open_clip resizes the shorter side to the input size and crops the centre, as torchvision does: the
    longer side is truncated, and the corner of the crop is rounded half to even.

    Raises:
        CheckpointError: a rule that serving does not have.
    """
    resize, interpolation = settings.get("resize_mode", "shortest"), settings.get("interpolation", "bicubic")
    if resize not in RESIZES:
        raise CheckpointError(f"open_clip's resize_mode {resize!r} is not served; served are {', '.join(RESIZES)}")
    if interpolation not in INTERPOLATIONS:
        raise CheckpointError(
            f"open_clip's interpolation {interpolation!r} is not served; served are {', '.join(INTERPOLATIONS)}"
        )
    usual = CLIP.preprocess(image_size)
    return PreprocessContract(
        image_size=image_size,
        resize=RESIZES[resize],
        short_side=image_size,
        interpolation=INTERPOLATIONS[interpolation],
        size_rounding=usual.size_rounding,
        crop_rounding=usual.crop_rounding,
        mean=_triple(settings.get("mean", usual.mean)),
        std=_triple(settings.get("std", usual.std)),
    )


def _triple(values: Iterable[Any]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _shown(archs: Sequence[str]) -> str:
    return ", ".join(archs[:4]) + (" and others" if len(archs) > 4 else "")
