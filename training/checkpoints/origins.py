"""Determine from the origin of CLIP weights what their tensors do not show: activation, heads, preprocessing.

GELU and QuickGELU have no parameters, so weights load under either, and the wrong one gives wrong features without an
error. The activation follows from the hash of a published file, OpenAI's archive format, a configuration beside the
weights, a pretrained tag, or an architecture whose published weights all agree; otherwise the caller has to give it. It
is not guessed from features: random weights show no difference, so a threshold could not be tested.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve.contract import PreprocessContract
from training.checkpoints.native_format import CheckpointError
from training.checkpoints.overrides import Overrides
from training.checkpoints.published_weights import (
    Activation,
    agreed_preprocessing,
    preprocess_contract,
    published_activations,
    published_file,
    published_tags,
    tag_activation,
    tag_settings,
)
from training.models.open_clip_towers import architecture
from training.recipes import CLIP

OPENAI_NUMBERS = frozenset({"input_resolution", "context_length", "vocab_size"})  # in OpenAI's TorchScript archives


@dataclass(frozen=True, kw_only=True)
class WeightsOrigin:
    """What is known about weights besides their tensors; None means unknown."""

    source: str  # description for messages and provenance
    activation: Activation | None = None
    arch: str | None = None  # of open_clip
    config: Mapping[str, Any] | None = None  # open_clip's configuration of the model
    heads: tuple[int, int] | None = None  # of the vision and the text tower
    preprocess: PreprocessContract | None = None


UNKNOWN = WeightsOrigin(source="")


def origin_of_file(sha256: str, document: Mapping[str, Any], *, is_archive: bool) -> WeightsOrigin:
    """Return the origin of a file by its hash or format; `document` is its content."""
    published = published_file(sha256)
    if published is not None:
        settings = tag_settings(published.arch, published.tag)
        size = architecture(published.arch)["vision_cfg"]["image_size"]
        return WeightsOrigin(
            source=f"the file is open_clip's {published.arch}/{published.tag} by its sha256",
            activation=tag_activation(published.arch, published.tag),
            arch=published.arch,
            preprocess=preprocess_contract(settings, image_size=int(size)),
        )
    if is_archive and set(document) >= OPENAI_NUMBERS:
        return WeightsOrigin(
            source="the file is a TorchScript archive as OpenAI published CLIP", activation="quick_gelu"
        )
    return UNKNOWN


def decide_activation(origin: WeightsOrigin, overrides: Overrides, archs: Sequence[str]) -> tuple[Activation, str]:
    """Return the activation of both towers and its source; `archs` are the candidate architectures.

    Raises:
        CheckpointError: it is unknown, or `overrides` contradict the origin.
    """
    asked = overrides.activation
    if origin.activation is not None:
        if asked not in (None, origin.activation):
            raise CheckpointError(
                f"activation: {origin.source} and was trained with {origin.activation}, found {asked}"
            )
        return origin.activation, origin.source
    if asked is not None:
        return asked, "given by the caller"
    if overrides.tag is not None:
        arch = _arch_of_tag(overrides.tag, archs)
        return tag_activation(arch, overrides.tag), f"that of open_clip's {arch}/{overrides.tag}"
    if overrides.arch is not None and architecture(overrides.arch).get("quick_gelu"):
        return "quick_gelu", f"that of the architecture {overrides.arch}"
    known = set().union(*(published_activations(arch) for arch in archs))
    if len(known) == 1:
        return known.pop(), f"that of all weights published for {', '.join(archs)}"
    raise CheckpointError(f"activation: {_unknown_reason(archs)}; {_ADVICE}")


_ADVICE = (
    "give --activation quick_gelu (OpenAI's weights, MetaCLIP, DFN, and models fine-tuned from them) or "
    "--activation gelu (LAION's and DataComp's weights, and the default of open_clip's training)"
)


def _unknown_reason(archs: Sequence[str]) -> str:
    why = "the tensors do not show whether the towers were trained with GELU or QuickGELU, and the origin is unknown"
    return f"{why}, and weights of the shapes of {', '.join(archs)} exist with both" if archs else why


def decide_preprocess(
    origin: WeightsOrigin, overrides: Overrides, archs: Sequence[str], *, image_size: int
) -> PreprocessContract:
    """Return the preprocessing: as given, from the origin, or what all published weights share.

    For shapes that were never published it is OpenAI's preprocessing.

    Raises:
        CheckpointError: the published weights differ, or serving does not support their rule.
    """
    if overrides.preprocess is not None:
        return overrides.preprocess
    if overrides.tag is not None:
        return preprocess_contract(
            tag_settings(_arch_of_tag(overrides.tag, archs), overrides.tag), image_size=image_size
        )
    if origin.preprocess is not None:
        return origin.preprocess
    settings = agreed_preprocessing(archs)
    return preprocess_contract(settings, image_size=image_size) if settings else CLIP.preprocess(image_size)


def _arch_of_tag(tag: str, archs: Sequence[str]) -> str:
    found = next((arch for arch in archs if tag in published_tags(arch)), None)
    if found is None:
        known = sorted(set(_flat(published_tags(arch) for arch in archs)))
        raise CheckpointError(
            f"{tag!r} is not a pretrained tag of {', '.join(archs) or 'a known architecture of these sizes'}; "
            f"tags: {', '.join(known) or 'none'}"
        )
    return found


def _flat(lists: Iterable[Sequence[str]]) -> list[str]:
    return [item for each in lists for item in each]
