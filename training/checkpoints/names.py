"""Convert names of weights between this project and the original programs.

This project uses the names of OpenAI's CLIP and X-CLIP, with the text tower under `text.` and ActionCLIP's fusion model
under `fusion.`, so only prefixes differ. The blocks of TSM are `...resblocks.i.block.` in this project and
`...resblocks.i.net.` in the original.
"""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

Value = TypeVar("Value")

TEXT_PREFIXES = ("positional_embedding", "text_projection", "token_embedding.", "transformer.", "ln_final.")
FUSION_PREFIX = "fusion."
ADDED_PARTS = ("fusion.", "mit.", "prompts_", "message_")  # substrings of names of weights that families add to CLIP
_OFFICIAL_SHIFT = re.compile(r"^(visual\.transformer\.resblocks\.\d+)\.net\.")
_NATIVE_SHIFT = re.compile(r"^(visual\.transformer\.resblocks\.\d+)\.block\.")


def from_official(name: str) -> str:
    """Convert a name of OpenAI's CLIP, X-CLIP or the CLIP part of ActionCLIP to the name in this project."""
    if name.startswith(TEXT_PREFIXES):
        return f"text.{name}"
    return _OFFICIAL_SHIFT.sub(r"\1.block.", name)


def to_official(name: str) -> str:
    """Convert a name to the official name; the inverse of `from_official`."""
    if name.startswith("text."):
        return name.removeprefix("text.")
    return _NATIVE_SHIFT.sub(r"\1.net.", name)


def from_open_clip(name: str) -> str:
    """Convert a name of open_clip, with or without a separate text tower, to the name in this project."""
    if name.startswith(("visual.", "text.")):
        tower, rest = name.split(".", 1)
        return f"{tower}.tower.{rest}"
    return f"text.tower.{name}" if name.startswith(TEXT_PREFIXES) else name


def to_open_clip(name: str) -> str:
    """Convert a name to open_clip's name with a separate text tower; the inverse of `from_open_clip`."""
    return re.sub(r"^(visual|text)\.tower\.", r"\1.", name)


def rename_weights(weights: Mapping[str, Value], rename: Callable[[str], str]) -> dict[str, Value]:
    """Return the weights with each name converted by `rename`."""
    return {rename(name): item for name, item in weights.items()}
