"""Build the two towers of a model from their configurations.

`kind` selects the class; the other fields are its keyword arguments, e.g. of `SmallVision` and `SmallText` in
`training/models/small.py`.
"""

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from training.models.base import ModelConfigError, TextTower, VisionTower
from training.models.clip import ClipText, ClipVision
from training.models.xclip import XClipVision

Constructed = TypeVar("Constructed")


def build_towers(
    vision: Mapping[str, Any], text: Mapping[str, Any], *, num_frames: int
) -> tuple[VisionTower, TextTower]:
    """Build vision and text tower with random weights.

    If both are open_clip towers, they are built as one model if their configurations are equal. For a CLIP vision tower
    with a `temporal` option, the number of frames is `num_frames` by default.

    Raises:
        ModelConfigError: the kind is unknown, or a field is unknown or missing.
    """
    if vision.get("kind") == text.get("kind") == "open_clip":
        from training.models.open_clip_towers import build_open_clip_towers

        return build_open_clip_towers(vision, text)
    if vision.get("kind") == "clip" and vision.get("temporal", "none") != "none":
        vision = {"num_frames": num_frames, **vision}
    return _build_vision(vision), _build_text(text)


def build_xclip_towers(
    vision: Mapping[str, Any], text: Mapping[str, Any], *, num_frames: int
) -> tuple[XClipVision, ClipText]:
    """Build X-CLIP's towers: CLIP's text tower, and CLIP's vision tower with messages between T frames."""
    for config, where in ((vision, "vision"), (text, "text")):
        if _kind(config, where) != "clip":
            raise ModelConfigError(f"{where}.kind: must be clip for xclip, got {config['kind']!r}")
    visual = construct(XClipVision, {**_without_kind(vision), "num_frames": num_frames}, "vision")
    return visual, construct(ClipText, _without_kind(text), "text")


def _build_vision(config: Mapping[str, Any]) -> VisionTower:
    match _kind(config, "vision"):
        case "clip":
            return construct(ClipVision, _without_kind(config), "vision")
        case "open_clip":
            from training.models.open_clip_towers import build_open_clip_vision

            return build_open_clip_vision(config)
        case "small":
            from training.models.small import SmallVision

            return construct(SmallVision, _without_kind(config), "vision")
        case "concepts":
            from training.models.efficientnet_lite import ConceptVision

            return construct(ConceptVision, _without_kind(config), "vision")
        case other:
            raise ModelConfigError(f"vision.kind: must be one of clip, open_clip, small, concepts, got {other!r}")


def _build_text(config: Mapping[str, Any]) -> TextTower:
    match _kind(config, "text"):
        case "clip":
            return construct(ClipText, _without_kind(config), "text")
        case "open_clip":
            from training.models.open_clip_towers import build_open_clip_text

            return build_open_clip_text(config)
        case "small":
            from training.models.small import SmallText

            return construct(SmallText, _without_kind(config), "text")
        case "gated":
            from training.models.gated_text import GatedText

            return construct(GatedText, _without_kind(config), "text")
        case other:
            raise ModelConfigError(f"text.kind: must be one of clip, open_clip, small, gated, got {other!r}")


def construct(constructor: type[Constructed], config: Mapping[str, Any], where: str) -> Constructed:
    """Call a constructor with the fields of `config` as keyword arguments.

    Raises:
        ModelConfigError: a field is unknown or missing; `where` is the name of the configuration in the message.
    """
    parameters = list(inspect.signature(constructor).parameters.values())
    unknown = sorted(set(config) - {item.name for item in parameters})
    missing = sorted(item.name for item in parameters if item.default is item.empty and item.name not in config)
    if unknown or missing:
        raise ModelConfigError(f"{where}: unknown fields {unknown}, missing fields {missing}")
    return constructor(**config)


def _kind(config: Mapping[str, Any], where: str) -> object:
    if "kind" not in config:
        raise ModelConfigError(f"{where}: the field kind is missing")
    return config["kind"]


def _without_kind(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "kind"}
