"""Values that a weight file does not contain, or that replace values in it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from serve.contract import Family, PreprocessContract, SamplingRule
from training.checkpoints.native_format import CheckpointError

ASSUMED_FRAMES = 8  # T of published models that do not store it


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """A field that is None is read from the file, or has the value of the published model."""

    family: Family | None = None  # family to build from plain CLIP weights
    num_frames: int | None = None  # T
    vision_heads: int | None = None
    text_heads: int | None = None
    mit_heads: int | None = None
    prompt_heads: int | None = None
    activation: Literal["quick_gelu", "gelu"] | None = None  # of the CLIP towers; tensors do not show it
    fusion: Mapping[str, Any] | None = None  # merged into the configuration of ActionCLIP's fusion model
    prompts: bool | None = None  # False: build X-CLIP from plain CLIP weights without a prompt generator
    arch: str | None = None  # name in open_clip, for weights that are not of a plain CLIP ViT
    tag: str | None = None  # open_clip's pretrained tag of the weights, or of those they were fine-tuned from
    weights_key: str | None = None  # selects one of several state dicts in a file, e.g. "model"
    preprocess: PreprocessContract | None = None
    sampling_rule: SamplingRule | None = None
    templates: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    card: str | None = None
    seed: int | None = None  # for initialising parts that the file lacks; None means 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


def make_overrides(values: "Overrides | Mapping[str, Any] | None") -> Overrides:
    """Convert a mapping to overrides.

    Raises:
        CheckpointError: a name is unknown, or the activation is invalid.
    """
    if isinstance(values, Overrides):
        return values
    options = dict(values or {})
    known = {item.name for item in fields(Overrides)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise CheckpointError(f"overrides must be among {', '.join(sorted(known))}, got {', '.join(unknown)}")
    for name in ("templates", "labels"):
        if options.get(name) is not None:
            options[name] = tuple(options[name])
    if options.get("activation") not in (None, "quick_gelu", "gelu"):
        raise CheckpointError(f"activation: must be quick_gelu or gelu, got {options['activation']!r}")
    return Overrides(**options)
