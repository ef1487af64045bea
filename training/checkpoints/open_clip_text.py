"""Tokenization for text towers of open_clip, as a text contract."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from serve.contract import TextCleaning, TextContract
from training.checkpoints.native_format import CheckpointError
from training.models.base import TextTower
from training.recipes import VIDEO_TEMPLATES, clip_text

CLEANINGS: Mapping[str, TextCleaning] = {name: name for name in ("whitespace", "lower", "canonicalize")}
# truncate long texts in training only; texts that fit have the same tokens (syntax masking changes those too)
HARMLESS_REDUCTIONS = frozenset({"", "simple", "random", "shuffle"})


@dataclass(frozen=True, kw_only=True)
class TokenizerFacts:
    """Special tokens of a tokenizer that open_clip loads from the hub."""

    pad_id: int
    separator_id: int | None = None  # token that `strip_sep_token` replaces by 0


HUB_TOKENIZERS: Mapping[str, TokenizerFacts] = {
    "bert-base-uncased": TokenizerFacts(pad_id=0, separator_id=102),
    "facebook/xlm-v-base": TokenizerFacts(pad_id=1),
    "google/mt5-base": TokenizerFacts(pad_id=0),
    "timm/ViT-B-16-SigLIP": TokenizerFacts(pad_id=1),  # SigLIP pads with the end of the text
    "timm/ViT-B-16-SigLIP-i18n-256": TokenizerFacts(pad_id=1),
}
SIGLIP2 = re.compile(r"timm/ViT-\S+-SigLIP2(-\d+)?")  # Gemma's tokenizer, one copy for each size


def text_contract(settings: Mapping[str, Any], tower: TextTower, *, name: str) -> TextContract:
    """Return the text contract for `settings`, the `text_cfg` of a configuration; `name` is for messages.

    Raises:
        CheckpointError: serving does not support its tokenization.
    """
    options = dict(settings.get("tokenizer_kwargs") or {})
    if settings.get("tokenizer_mode"):
        raise CheckpointError(
            f"tokenizer_mode: {name} uses {settings['tokenizer_mode']!r}, which serving does not support"
        )
    hub_name = settings.get("hf_tokenizer_name")
    if not hub_name:
        _check_clip_options(options, name)
        usual = clip_text(tower.context_length, VIDEO_TEMPLATES)
        return replace(usual, dynamic_length=tower.takes_short_rows)
    cleaning = options.pop("clean", "whitespace")
    strips_separator = bool(options.pop("strip_sep_token", False))
    if cleaning not in CLEANINGS:
        raise CheckpointError(f"tokenizer_kwargs.clean: {name} uses {cleaning!r}, which serving does not support")
    if options:
        raise CheckpointError(
            f"tokenizer_kwargs: {name} uses {', '.join(sorted(options))}, which serving does not support"
        )
    facts = _tokenizer_facts(hub_name, name)
    if strips_separator and facts.separator_id is None:
        raise CheckpointError(f"tokenizer_kwargs.strip_sep_token: the separator of {hub_name} is not known here")
    return TextContract(
        tokenizer="tokenizers",  # its file is separate from the weights
        context_length=tower.context_length,
        dynamic_length=tower.takes_short_rows,
        pad_id=facts.pad_id,
        cleaning=CLEANINGS[cleaning],
        zeroed_token_id=facts.separator_id if strips_separator else None,
        templates=VIDEO_TEMPLATES,
    )


def _check_clip_options(options: Mapping[str, Any], name: str) -> None:
    """Refuse options of CLIP's tokenizer that change the tokens of texts that fit."""
    cleaning, reduction = options.get("clean", "lower"), options.get("reduction_mask", "")
    unknown = sorted(set(options) - {"clean", "reduction_mask"})
    if cleaning != "lower":
        raise CheckpointError(
            f"tokenizer_kwargs.clean: {name} uses {cleaning!r} with CLIP's tokenizer, 'lower' is served"
        )
    if reduction not in HARMLESS_REDUCTIONS:
        raise CheckpointError(
            f"tokenizer_kwargs.reduction_mask: {name} uses {reduction!r}, which serving does not support"
        )
    if unknown:
        raise CheckpointError(f"tokenizer_kwargs: {name} uses {', '.join(unknown)}, which serving does not support")


def _tokenizer_facts(hub_name: str, name: str) -> TokenizerFacts:
    if hub_name in HUB_TOKENIZERS:
        return HUB_TOKENIZERS[hub_name]
    if SIGLIP2.fullmatch(hub_name):
        return TokenizerFacts(pad_id=0)
    raise CheckpointError(f"hf_tokenizer_name: the padding of {hub_name}, which {name} uses, is not known here")
