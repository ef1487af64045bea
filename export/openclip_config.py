"""What open_clip's configurations say about a name and its weights, in the contract's words.

The preprocessing belongs to the weights, not to the architecture: it stands in the configuration of the pretrained tag.
For weights from a file it is that of the architecture's tags where they agree, and has to be named where they do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from export.errors import ExportError
from serve.contract import Interpolation, PreprocessContract, ResizeRule, SamplingRule

INTERPOLATIONS: dict[str, Interpolation] = {"bicubic": "pillow_bicubic", "bilinear": "pillow_bilinear"}
RESIZES: dict[str, ResizeRule] = {"shortest": "shortest_side", "squash": "squash"}
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")
CLIP_VOCABULARY = 49408  # rows of the token table of CLIP's own tokenizer


@dataclass(frozen=True, kw_only=True)
class OpenClipWeights:
    """Which weights of an architecture: a published tag or a local file, and whose preprocessing they were trained
    with."""

    arch: str
    pretrained: str
    preprocess: Mapping[str, Any]  # mean, std, interpolation, resize_mode
    quick_gelu: bool

    @property
    def is_file(self) -> bool:
        """Whether `pretrained` is a path."""
        return Path(self.pretrained).is_file()


def find_weights(arch: str, pretrained: str, *, preprocess_tag: str | None) -> OpenClipWeights:
    """Resolve a name and a tag or file of open_clip; `preprocess_tag` names the tag whose preprocessing a file follows.

    Raises:
        ExportError: open_clip knows no such name or tag, or the preprocessing of a file is not clear.
    """
    model_config = architecture(arch)
    tags = list_pretrained_tags_by_model(arch)
    if pretrained in tags:
        found = get_pretrained_cfg(arch, pretrained)
        quick_gelu = bool(found.get("quick_gelu", False))
    elif Path(pretrained).is_file():
        found = _preprocessing_of_file(arch, tags, preprocess_tag=preprocess_tag)
        quick_gelu = bool(found.get("quick_gelu", model_config.get("quick_gelu", False)))
    else:
        raise ExportError(
            f"{pretrained!r} is neither a file nor a pretrained tag of {arch}; its tags: {', '.join(tags) or 'none'}"
        )
    return OpenClipWeights(
        arch=arch,
        pretrained=pretrained,
        preprocess={key: found[key] for key in PREPROCESS_KEYS if key in found},
        quick_gelu=quick_gelu,
    )


def architecture(arch: str) -> dict[str, Any]:
    """open_clip's model configuration of a name.

    Raises:
        ExportError: no such name.
    """
    found: dict[str, Any] | None = open_clip.get_model_config(arch)
    if found is None:
        raise ExportError(f"open_clip has no architecture {arch!r}; `open_clip.list_models()` names all of them")
    return found


def preprocess_contract(settings: Mapping[str, Any], *, image_size: int) -> PreprocessContract:
    """The contract's words for open_clip's preprocessing of a square model input of `image_size` pixels.

    Under "shortest" open_clip resizes the shorter side to the input's size itself and cuts the centre, as torchvision
    does:
    the longer side is truncated, the corner of the crop rounds half to even.

    Raises:
        ExportError: a rule that serving does not have.
    """
    resize, interpolation = settings.get("resize_mode", "shortest"), settings.get("interpolation", "bicubic")
    if resize not in RESIZES:
        raise ExportError(f"open_clip's resize_mode {resize!r} is not served; served are {', '.join(RESIZES)}")
    if interpolation not in INTERPOLATIONS:
        raise ExportError(
            f"open_clip's interpolation {interpolation!r} is not served; served are {', '.join(INTERPOLATIONS)}"
        )
    return PreprocessContract(
        image_size=image_size,
        resize=RESIZES[resize],
        short_side=image_size,
        interpolation=INTERPOLATIONS[interpolation],
        size_rounding="truncate",
        crop_rounding="half_even",
        mean=_triple(settings.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=_triple(settings.get("std", open_clip.OPENAI_DATASET_STD)),
    )


def sampling_rule(arch: str) -> SamplingRule:
    """Segment centres; PE-Core's published evaluation takes both ends of the video."""
    return "ends" if arch.startswith("PE-Core") else "centres"


def square_image_size(arch: str) -> int:
    """S of an architecture.

    Raises:
        ExportError: its input is no square.
    """
    size = architecture(arch)["vision_cfg"]["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ExportError(f"{arch} takes pictures of {width}x{height}, served are square ones")
    return int(height)


def has_clip_tokenizer(arch: str) -> bool:
    """Whether the architecture uses the byte-level BPE that open_clip ships; others need a tokenizer file."""
    text = architecture(arch)["text_cfg"]
    is_foreign = "hf_tokenizer_name" in text or "hf_model_name" in text
    return not is_foreign and text.get("vocab_size", CLIP_VOCABULARY) == CLIP_VOCABULARY


def _preprocessing_of_file(arch: str, tags: list[str], *, preprocess_tag: str | None) -> dict[str, Any]:
    if preprocess_tag is not None:
        if preprocess_tag not in tags:
            raise ExportError(
                f"{preprocess_tag!r} is no pretrained tag of {arch}; its tags: {', '.join(tags) or 'none'}"
            )
        return dict(get_pretrained_cfg(arch, preprocess_tag))
    choices = {tag: {key: get_pretrained_cfg(arch, tag).get(key) for key in PREPROCESS_KEYS} for tag in tags}
    distinct = list({str(value): value for value in choices.values()}.values())
    if len(distinct) > 1:
        raise ExportError(
            f"the weights open_clip publishes for {arch} were trained with different preprocessing; "
            f"say whose the file follows with --preprocess-tag TAG, one of {', '.join(tags)}"
        )
    found = distinct[0] if distinct else {}  # no tag was ever published: open_clip's own defaults
    return {key: value for key, value in found.items() if value is not None}


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
