"""Wrap towers of open_clip architectures in this package's interface; nothing is downloaded.

open_clip's text towers require texts of full length. The wrapper shortens position embeddings and mask to the tokens,
so that causal towers support variable length. Text towers of Hugging Face and of CoCa, whose class token requires full
length, are not supported.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import open_clip
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from training.models.base import INITIAL_LOGIT_SCALE, ModelConfigError, TextTower, VisionTower

CONFIG_FIELDS = frozenset({"kind", "arch", "changes"})


class OpenClipVision(VisionTower):
    """An image tower of open_clip: frames [N, 3, S, S] -> frame features [N, D]."""

    def __init__(self, tower: nn.Module, *, embed_dim: int) -> None:
        super().__init__()
        size: Any = tower.image_size
        sides = {size} if isinstance(size, int) else set(size)
        if len(sides) != 1:
            raise ModelConfigError(f"vision: the image size must be square, got {size}")
        self.image_size, self.embed_dim = int(sides.pop()), embed_dim
        self.tower = tower

    def forward(self, frames: Tensor) -> Tensor:
        return self.tower(frames)  # type: ignore[no-any-return]


class OpenClipText(TextTower):
    """A text tower of open_clip, with positions and mask shortened to the tokens."""

    def __init__(self, tower: TextTransformer, *, embed_dim: int) -> None:
        super().__init__()
        if not isinstance(tower, TextTransformer) or tower.cls_emb is not None or tower.use_pad_mask:
            raise ModelConfigError(
                f"text: a {type(tower).__name__} with a class token or a padding mask is not supported"
            )
        self.context_length, self.embed_dim, self.width = tower.context_length, embed_dim, tower.width
        self.supports_variable_length = tower.attn_mask is not None
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        tower, length = self.tower, tokens.shape[1]
        embeddings = tower.token_embedding(tokens) + tower.positional_embedding[:length]  # [R, L, W]
        mask = tower.attn_mask[:length, :length] if self.supports_variable_length else None
        mixed = tower.ln_final(tower.transformer(embeddings, attn_mask=mask))
        pooled: Tensor = text_global_pool(mixed, tokens, pool_type=tower.pool_type, eos_token_id=tower.eos_id)  # [R, W]
        if tower.text_projection is None:
            return pooled
        if isinstance(tower.text_projection, nn.Linear):
            return tower.text_projection(pooled)  # type: ignore[no-any-return]
        projected: Tensor = pooled @ tower.text_projection  # [R, D]
        return projected


def build_open_clip_towers(vision: Mapping[str, Any], text: Mapping[str, Any]) -> tuple[OpenClipVision, OpenClipText]:
    """Build both towers; if their configurations are equal, they are taken from one model."""
    vision_model = _build_model(vision, "vision")
    text_model = vision_model if {**vision} == {**text} else _build_model(text, "text")
    return _vision_tower(vision_model, vision), _text_tower(text_model, text)


def build_open_clip_vision(config: Mapping[str, Any]) -> OpenClipVision:
    """Build only the vision tower."""
    return _vision_tower(_build_model(config, "vision"), config)


def build_open_clip_text(config: Mapping[str, Any]) -> OpenClipText:
    """Build only the text tower."""
    return _text_tower(_build_model(config, "text"), config)


def architecture_config(arch: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return open_clip's configuration of an architecture, with `changes` merged into it.

    Raises:
        ModelConfigError: open_clip has no such architecture.
    """
    config = open_clip.get_model_config(arch)
    if config is None:
        raise ModelConfigError(f"arch: open_clip has no architecture {arch!r}")
    return _merge(config, changes or {})


def open_clip_model_config(arch: str, *, num_frames: int, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a model configuration with both towers of an open_clip architecture and without a fusion model."""
    open_clip_config = architecture_config(arch, changes)
    tower: dict[str, Any] = {
        "kind": "open_clip",
        "arch": arch,
        **({"changes": deepcopy(dict(changes))} if changes else {}),
    }
    config: dict[str, Any] = {"num_frames": num_frames, "vision": dict(tower), "text": dict(tower)}
    config["logit_scale"] = float(open_clip_config.get("init_logit_scale", INITIAL_LOGIT_SCALE))
    if open_clip_config.get("init_logit_bias") is not None:
        config["logit_bias"] = float(open_clip_config["init_logit_bias"])
    return config


def _build_model(config: Mapping[str, Any], where: str) -> nn.Module:
    unknown = sorted(set(config) - CONFIG_FIELDS)
    if unknown or "arch" not in config:
        raise ModelConfigError(
            f"{where}: an open_clip tower has the fields arch (required) and changes, got {sorted(config)}"
        )
    arguments = architecture_config(config["arch"], config.get("changes"))
    if arguments["text_cfg"].get("hf_model_name") or "multimodal_cfg" in arguments:
        raise ModelConfigError(f"{where}.arch: the text tower of {config['arch']} is not supported")
    arguments.pop("custom_text", None)  # CustomTextCLIP always has a separate text tower
    arguments["vision_cfg"] = {**arguments["vision_cfg"], "output_tokens": False}
    if "timm_model_name" in arguments["vision_cfg"]:
        arguments["vision_cfg"]["timm_model_pretrained"] = False
    return open_clip.CustomTextCLIP(**arguments)  # type: ignore[no-any-return]


def _vision_tower(model: nn.Module, config: Mapping[str, Any]) -> OpenClipVision:
    return OpenClipVision(cast(nn.Module, model.visual), embed_dim=_embed_dim(config))


def _text_tower(model: nn.Module, config: Mapping[str, Any]) -> OpenClipText:
    return OpenClipText(model.text, embed_dim=_embed_dim(config))


def _embed_dim(config: Mapping[str, Any]) -> int:
    return int(architecture_config(config["arch"], config.get("changes"))["embed_dim"])


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(base))
    for name, value in changes.items():
        merged[name] = _merge(merged[name], value) if isinstance(value, Mapping) and name in merged else value
    return merged
