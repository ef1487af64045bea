"""Towers of open_clip architectures with the interface of this package; nothing is downloaded.

open_clip's text towers need rows of full length; the wrapper cuts positions and mask to the row, so causal towers take
short rows. Text towers of Hugging Face and of CoCa, whose class token needs full rows, are refused.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import open_clip
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from training.models.base import INITIAL_LOGIT_SCALE, ModelConfigError, TextTower, VisionTower

FIELDS = frozenset({"kind", "arch", "changes"})


class OpenClipVision(VisionTower):
    """An image tower of open_clip: frames [N, 3, S, S] -> [N, D]."""

    def __init__(self, tower: nn.Module, *, embed_dim: int) -> None:
        super().__init__()
        size: Any = tower.image_size
        sides = {size} if isinstance(size, int) else set(size)
        if len(sides) != 1:
            raise ModelConfigError(f"vision: square pictures are needed, this architecture has {size}")
        self.image_size, self.embed_dim = int(sides.pop()), embed_dim
        self.tower = tower

    def forward(self, frames: Tensor) -> Tensor:
        return self.tower(frames)  # type: ignore[no-any-return]


class OpenClipText(TextTower):
    """A text tower of open_clip; positions and mask follow the length of the rows."""

    def __init__(self, tower: TextTransformer, *, embed_dim: int) -> None:
        super().__init__()
        if not isinstance(tower, TextTransformer) or tower.cls_emb is not None or tower.use_pad_mask:
            raise ModelConfigError(
                f"text: towers of the kind {type(tower).__name__} with their own masks are not supported"
            )
        self.context_length, self.embed_dim, self.width = tower.context_length, embed_dim, tower.width
        self.takes_short_rows = tower.attn_mask is not None
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        tower, length = self.tower, tokens.shape[1]
        embedded = tower.token_embedding(tokens) + tower.positional_embedding[:length]  # [R, L, W]
        mask = tower.attn_mask[:length, :length] if self.takes_short_rows else None
        mixed = tower.ln_final(tower.transformer(embedded, attn_mask=mask))
        pooled: Tensor = text_global_pool(mixed, tokens, pool_type=tower.pool_type, eos_token_id=tower.eos_id)  # [R, W]
        if tower.text_projection is None:
            return pooled
        if isinstance(tower.text_projection, nn.Linear):
            return tower.text_projection(pooled)  # type: ignore[no-any-return]
        projected: Tensor = pooled @ tower.text_projection  # [R, D]
        return projected


def build_open_clip_towers(vision: Mapping[str, Any], text: Mapping[str, Any]) -> tuple[OpenClipVision, OpenClipText]:
    """Build both towers; as one model if they have the same architecture."""
    whole = _make_whole(vision, "vision")
    other = whole if {**vision} == {**text} else _make_whole(text, "text")
    return _vision_of(whole, vision), _text_of(other, text)


def build_open_clip_vision(config: Mapping[str, Any]) -> OpenClipVision:
    """Build only the image tower."""
    return _vision_of(_make_whole(config, "vision"), config)


def build_open_clip_text(config: Mapping[str, Any]) -> OpenClipText:
    """Build only the text tower."""
    return _text_of(_make_whole(config, "text"), config)


def architecture(arch: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return open_clip's configuration of an architecture, merged with `changes`.

    Raises:
        ModelConfigError: open_clip has no such architecture.
    """
    found = open_clip.get_model_config(arch)
    if found is None:
        raise ModelConfigError(f"arch: open_clip has no architecture {arch!r}")
    return _overlay(found, changes or {})


def open_clip_model_config(arch: str, *, num_frames: int, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a model configuration with both towers of an open_clip architecture, without fusion."""
    whole = architecture(arch, changes)
    tower: dict[str, Any] = {
        "kind": "open_clip",
        "arch": arch,
        **({"changes": deepcopy(dict(changes))} if changes else {}),
    }
    config: dict[str, Any] = {"num_frames": num_frames, "vision": dict(tower), "text": dict(tower)}
    config["logit_scale"] = float(whole.get("init_logit_scale", INITIAL_LOGIT_SCALE))
    if whole.get("init_logit_bias") is not None:
        config["logit_bias"] = float(whole["init_logit_bias"])
    return config


def _make_whole(config: Mapping[str, Any], where: str) -> nn.Module:
    unknown = sorted(set(config) - FIELDS)
    if unknown or "arch" not in config:
        raise ModelConfigError(f"{where}: an open_clip tower has the fields arch and changes, found {sorted(config)}")
    whole = architecture(config["arch"], config.get("changes"))
    if whole["text_cfg"].get("hf_model_name") or "multimodal_cfg" in whole:
        raise ModelConfigError(f"{where}.arch: {config['arch']} has a text tower that is not supported")
    whole.pop("custom_text", None)  # the class below always has a separate text tower
    whole["vision_cfg"] = {**whole["vision_cfg"], "output_tokens": False}
    if "timm_model_name" in whole["vision_cfg"]:
        whole["vision_cfg"]["timm_model_pretrained"] = False
    return open_clip.CustomTextCLIP(**whole)  # type: ignore[no-any-return]


def _vision_of(whole: nn.Module, config: Mapping[str, Any]) -> OpenClipVision:
    return OpenClipVision(cast(nn.Module, whole.visual), embed_dim=_embed_dim(config))


def _text_of(whole: nn.Module, config: Mapping[str, Any]) -> OpenClipText:
    return OpenClipText(whole.text, embed_dim=_embed_dim(config))


def _embed_dim(config: Mapping[str, Any]) -> int:
    return int(architecture(config["arch"], config.get("changes"))["embed_dim"])


def _overlay(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(base))
    for name, value in changes.items():
        merged[name] = _overlay(merged[name], value) if isinstance(value, Mapping) and name in merged else value
    return merged
