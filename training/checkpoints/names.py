"""Convert names of weights between this project and the original programs.

Names here are OpenAI's and X-CLIP's with the text tower under `text.` and ActionCLIP's head under `fusion.`, so only
prefixes change. TSM blocks are `...resblocks.i.block.` here and `...resblocks.i.net.` there.
"""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

Item = TypeVar("Item")

TEXT_ROOTS = ("positional_embedding", "text_projection", "token_embedding.", "transformer.", "ln_final.")
FUSION = "fusion."
FRESH = ("fusion.", "mit.", "prompts_", "message_")  # in the names of parts that the families add to CLIP
_SHIFTED_THERE = re.compile(r"^(visual\.transformer\.resblocks\.\d+)\.net\.")
_SHIFTED_HERE = re.compile(r"^(visual\.transformer\.resblocks\.\d+)\.block\.")


def from_official(name: str) -> str:
    """Convert a name of OpenAI's CLIP, ActionCLIP's CLIP part or X-CLIP to the name here."""
    if name.startswith(TEXT_ROOTS):
        return f"text.{name}"
    return _SHIFTED_THERE.sub(r"\1.block.", name)


def to_official(name: str) -> str:
    """The inverse of `from_official`."""
    if name.startswith("text."):
        return name.removeprefix("text.")
    return _SHIFTED_HERE.sub(r"\1.net.", name)


def from_open_clip(name: str) -> str:
    """Convert a name of open_clip, in either of its layouts of the text tower, to the name here."""
    if name.startswith(("visual.", "text.")):
        tower, rest = name.split(".", 1)
        return f"{tower}.tower.{rest}"
    return f"text.tower.{name}" if name.startswith(TEXT_ROOTS) else name


def to_open_clip(name: str) -> str:
    """The inverse of `from_open_clip`, in the layout with a separate text tower."""
    return re.sub(r"^(visual|text)\.tower\.", r"\1.", name)


def renamed(weights: Mapping[str, Item], rename: Callable[[str], str]) -> dict[str, Item]:
    """Return the same weights under new names."""
    return {rename(name): item for name, item in weights.items()}
