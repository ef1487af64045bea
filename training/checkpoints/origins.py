"""Determine properties of CLIP weights that tensors do not show: activation, numbers of heads and preprocessing.

GELU and QuickGELU have no parameters: weights load with either, and the wrong one gives wrong features without an
error. The activation is determined from the hash of a published file, OpenAI's archive format, a configuration next to
the weights, a pretrained tag, or an architecture whose published weights all use the same one; otherwise the caller has
to give it. It is not guessed from features, because random weights show no difference, so a threshold could not be
tested.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve.contract import PreprocessContract
from training.checkpoints.native_format import CheckpointError
from training.checkpoints.overrides import Overrides
from training.checkpoints.published_weights import (
    Activation,
    common_preprocessing,
    preprocess_contract,
    published_activations,
    published_file,
    published_tags,
    tag_activation,
    tag_settings,
)
from training.models.open_clip_towers import architecture_config
from training.recipes import CLIP

OPENAI_METADATA_KEYS = frozenset({"input_resolution", "context_length", "vocab_size"})  # in OpenAI's archives


@dataclass(frozen=True, kw_only=True)
class WeightsOrigin:
    """Properties of weights that are known from their origin; None means unknown."""

    source: str  # clause for messages and provenance, e.g. "the file is ..."
    activation: Activation | None = None
    arch: str | None = None  # name in open_clip
    config: Mapping[str, Any] | None = None  # the model's configuration in open_clip's format
    heads: tuple[int, int] | None = None  # attention heads of the vision and the text tower
    preprocess: PreprocessContract | None = None


UNKNOWN_ORIGIN = WeightsOrigin(source="")


def detect_origin(sha256: str, document: Mapping[str, Any], *, is_archive: bool) -> WeightsOrigin:
    """Determine the origin of a file from its hash or format; `document` is its content."""
    published = published_file(sha256)
    if published is not None:
        settings = tag_settings(published.arch, published.tag)
        size = architecture_config(published.arch)["vision_cfg"]["image_size"]
        return WeightsOrigin(
            source=f"the file has the SHA-256 of open_clip's {published.arch}/{published.tag}",
            activation=tag_activation(published.arch, published.tag),
            arch=published.arch,
            preprocess=preprocess_contract(settings, image_size=int(size)),
        )
    if is_archive and set(document) >= OPENAI_METADATA_KEYS:
        return WeightsOrigin(source="the file is a TorchScript archive in OpenAI's format", activation="quick_gelu")
    return UNKNOWN_ORIGIN


def decide_activation(origin: WeightsOrigin, overrides: Overrides, archs: Sequence[str]) -> tuple[Activation, str]:
    """Return the activation of both towers and how it was determined; `archs` are the possible architectures.

    Raises:
        CheckpointError: the activation is unknown, or the overrides contradict the origin.
    """
    requested = overrides.activation
    if origin.activation is not None:
        if requested not in (None, origin.activation):
            raise CheckpointError(f"activation: must be {origin.activation} ({origin.source}), got {requested}")
        return origin.activation, origin.source
    if requested is not None:
        return requested, "given by the caller"
    if overrides.tag is not None:
        arch = _arch_of_tag(overrides.tag, archs)
        return tag_activation(arch, overrides.tag), f"used by open_clip's {arch}/{overrides.tag}"
    if overrides.arch is not None and architecture_config(overrides.arch).get("quick_gelu"):
        return "quick_gelu", f"defined by the architecture {overrides.arch}"
    known = set().union(*(published_activations(arch) for arch in archs))
    if len(known) == 1:
        return known.pop(), f"used by all weights published for {', '.join(archs)}"
    raise CheckpointError(f"activation: {_unknown_reason(archs)}; {_ADVICE}")


_ADVICE = (
    "give --activation quick_gelu (OpenAI's weights, MetaCLIP, DFN, and models fine-tuned from them) or "
    "--activation gelu (LAION's and DataComp's weights, and the default of open_clip's training)"
)


def _unknown_reason(archs: Sequence[str]) -> str:
    reason = "tensors do not show whether the towers were trained with GELU or QuickGELU, and the origin is unknown"
    return f"{reason}, and {', '.join(archs)} with these shapes exist with both" if archs else reason


def decide_preprocess(
    origin: WeightsOrigin, overrides: Overrides, archs: Sequence[str], *, image_size: int
) -> PreprocessContract:
    """Return the preprocessing, from the overrides, the origin, or what all published weights have in common.

    If no weights with these sizes were published, it is OpenAI's preprocessing.

    Raises:
        CheckpointError: the published weights differ, or serving does not support the preprocessing.
    """
    if overrides.preprocess is not None:
        return overrides.preprocess
    if overrides.tag is not None:
        return preprocess_contract(
            tag_settings(_arch_of_tag(overrides.tag, archs), overrides.tag), image_size=image_size
        )
    if origin.preprocess is not None:
        return origin.preprocess
    settings = common_preprocessing(archs)
    return preprocess_contract(settings, image_size=image_size) if settings else CLIP.preprocess(image_size)


def _arch_of_tag(tag: str, archs: Sequence[str]) -> str:
    match = next((arch for arch in archs if tag in published_tags(arch)), None)
    if match is None:
        known = sorted(set(_flatten(published_tags(arch) for arch in archs)))
        raise CheckpointError(
            f"{tag!r} is not a pretrained tag of {', '.join(archs) or 'a known architecture with these sizes'}; "
            f"known tags: {', '.join(known) or 'none'}"
        )
    return match


def _flatten(lists: Iterable[Sequence[str]]) -> list[str]:
    return [item for each in lists for item in each]
