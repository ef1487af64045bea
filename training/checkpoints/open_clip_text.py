"""Derive the text contract, which describes tokenization, of open_clip's text towers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from serve.contract import TextCleaning, TextContract
from training.checkpoints.native_format import CheckpointError
from training.models.base import TextTower
from training.recipes import VIDEO_TEMPLATES, clip_text

CLEANINGS: Mapping[str, TextCleaning] = {name: name for name in ("whitespace", "lower", "canonicalize")}
# these only truncate long texts, and only in training; shorter texts keep their tokens
SUPPORTED_REDUCTIONS = frozenset({"", "simple", "random", "shuffle"})


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Special tokens of a tokenizer that open_clip loads from the hub."""

    pad_id: int
    separator_id: int | None = None  # replaced by 0 if the option `strip_sep_token` is set


HUB_TOKENIZERS: Mapping[str, SpecialTokens] = {
    "bert-base-uncased": SpecialTokens(pad_id=0, separator_id=102),
    "facebook/xlm-v-base": SpecialTokens(pad_id=1),
    "google/mt5-base": SpecialTokens(pad_id=0),
    "timm/ViT-B-16-SigLIP": SpecialTokens(pad_id=1),  # SigLIP pads with the end-of-text token
    "timm/ViT-B-16-SigLIP-i18n-256": SpecialTokens(pad_id=1),
}
SIGLIP2 = re.compile(r"timm/ViT-\S+-SigLIP2(-\d+)?")  # all of them use Gemma's tokenizer


def text_contract(settings: Mapping[str, Any], tower: TextTower, *, name: str) -> TextContract:
    """Return the text contract for a text tower; `settings` is its `text_cfg`, `name` is used in messages.

    Raises:
        CheckpointError: serving does not support the tokenization.
    """
    options = dict(settings.get("tokenizer_kwargs") or {})
    if settings.get("tokenizer_mode"):
        raise CheckpointError(
            f"tokenizer_mode: {name} uses {settings['tokenizer_mode']!r}, which serving does not support"
        )
    hub_name = settings.get("hf_tokenizer_name")
    if not hub_name:
        _check_clip_options(options, name)
        contract = clip_text(tower.context_length, VIDEO_TEMPLATES)
        return replace(contract, dynamic_length=tower.supports_variable_length)
    cleaning = options.pop("clean", "whitespace")
    strips_separator = bool(options.pop("strip_sep_token", False))
    if cleaning not in CLEANINGS:
        raise CheckpointError(f"tokenizer_kwargs.clean: {name} uses {cleaning!r}, which serving does not support")
    if options:
        raise CheckpointError(
            f"tokenizer_kwargs: {name} uses {', '.join(sorted(options))}, which serving does not support"
        )
    tokens = _special_tokens(hub_name, name)
    if strips_separator and tokens.separator_id is None:
        raise CheckpointError(f"tokenizer_kwargs.strip_sep_token: the separator token of {hub_name} is unknown")
    return TextContract(
        tokenizer="tokenizers",  # its file is separate from the weights
        context_length=tower.context_length,
        dynamic_length=tower.supports_variable_length,
        pad_id=tokens.pad_id,
        cleaning=CLEANINGS[cleaning],
        zeroed_token_id=tokens.separator_id if strips_separator else None,
        templates=VIDEO_TEMPLATES,
    )


def _check_clip_options(options: Mapping[str, Any], name: str) -> None:
    """Raise for options of CLIP's tokenizer that change the tokens of texts within the context length."""
    cleaning, reduction = options.get("clean", "lower"), options.get("reduction_mask", "")
    unknown = sorted(set(options) - {"clean", "reduction_mask"})
    if cleaning != "lower":
        raise CheckpointError(
            f"tokenizer_kwargs.clean: {name} uses {cleaning!r} with CLIP's tokenizer; only 'lower' is supported"
        )
    if reduction not in SUPPORTED_REDUCTIONS:
        raise CheckpointError(
            f"tokenizer_kwargs.reduction_mask: {name} uses {reduction!r}, which serving does not support"
        )
    if unknown:
        raise CheckpointError(f"tokenizer_kwargs: {name} uses {', '.join(unknown)}, which serving does not support")


def _special_tokens(hub_name: str, name: str) -> SpecialTokens:
    if hub_name in HUB_TOKENIZERS:
        return HUB_TOKENIZERS[hub_name]
    if SIGLIP2.fullmatch(hub_name):
        return SpecialTokens(pad_id=0)
    raise CheckpointError(f"hf_tokenizer_name: {name} uses {hub_name}, whose padding token is unknown")
