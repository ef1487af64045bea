"""Values that a weight file lacks, or that override it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from serve.contract import Family, PreprocessContract, SamplingRule
from training.checkpoints.native_format import CheckpointError

ASSUMED_FRAMES = 8  # T of published models that do not store it


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """A field that is None is read from the file or has the value of the published system."""

    family: Family | None = None  # family to build from plain CLIP weights
    num_frames: int | None = None  # T
    vision_heads: int | None = None
    text_heads: int | None = None
    mit_heads: int | None = None
    prompt_heads: int | None = None
    activation: Literal["quick_gelu", "gelu"] | None = None  # of CLIP's towers; tensors do not show it
    fusion: Mapping[str, Any] | None = None  # merged over the file's configuration of ActionCLIP's head
    prompts: bool | None = None  # False: build X-CLIP without prompt generator from plain CLIP weights
    arch: str | None = None  # open_clip's name, for weights that are not plain CLIP's
    tag: str | None = None  # pretrained tag of open_clip that the weights are, or were fine-tuned from
    weights_key: str | None = None  # which of several state dicts in a file, e.g. "model" beside "model_ema"
    preprocess: PreprocessContract | None = None
    sampling_rule: SamplingRule | None = None
    templates: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    card: str | None = None
    seed: int | None = None  # for initialising parts that the file lacks; default 0

    def given(self) -> dict[str, Any]:
        """Return the fields that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


def make_overrides(given: "Overrides | Mapping[str, Any] | None") -> Overrides:
    """Convert a mapping to overrides.

    Raises:
        CheckpointError: there is no such override.
    """
    if isinstance(given, Overrides):
        return given
    values = dict(given or {})
    known = {item.name for item in fields(Overrides)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise CheckpointError(f"overrides: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    for name in ("templates", "labels"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    if values.get("activation") not in (None, "quick_gelu", "gelu"):
        raise CheckpointError(f"activation: quick_gelu or gelu is needed, found {values['activation']!r}")
    return Overrides(**values)
