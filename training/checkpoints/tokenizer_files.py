"""Read the special tokens of a tokenizer file and of the configuration next to it.

Hubs store `tokenizer.json`, which contains token ids, and `tokenizer_config.json`, which names the special tokens. If
the latter is missing, the padding of `tokenizer.json` is used; without that, the padding token in the contract.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from serve import strict_json
from serve.contract import TextContract
from training.checkpoints.native_format import CheckpointError

CONFIG = "tokenizer_config.json"
SEPARATOR = "[SEP]"  # BERT's separator token


def apply_tokenizer_file(contract: TextContract, path: Path) -> TextContract:
    """Return the text contract with the special tokens of a file of the `tokenizers` library.

    Raises:
        CheckpointError: the file cannot be read, or lacks a token that the model needs.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise CheckpointError(f"cannot read the tokenizer file {path}: {error}") from error
    names = _named_tokens(path.parent / CONFIG)
    changes: dict[str, Any] = {"tokenizer": "tokenizers", "pad_id": _pad_id(tokenizer, names, contract.pad_id)}
    if contract.zeroed_token_id is not None:
        changes["zeroed_token_id"] = _token_id(tokenizer, names.get("sep_token", SEPARATOR), "sep_token")
    return replace(contract, **changes)


def _pad_id(tokenizer: Tokenizer, names: Mapping[str, str], default: int) -> int:
    if "pad_token" in names:
        return _token_id(tokenizer, names["pad_token"], "pad_token")
    return int(tokenizer.padding["pad_id"]) if tokenizer.padding else default


def _token_id(tokenizer: Tokenizer, token: str, role: str) -> int:
    token_id = tokenizer.token_to_id(token)
    if token_id is None:
        raise CheckpointError(
            f"{role}: the tokenizer file has no token {token!r}; pass the tokenizer file of this model"
        )
    return int(token_id)


def _named_tokens(path: Path) -> dict[str, str]:
    """Return the special tokens in `tokenizer_config.json` by role; empty if the file is missing."""
    if not path.is_file():
        return {}
    try:
        document = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path} as JSON: {error}") from error
    roles = {name: item for name, item in document.items() if name.endswith("_token")}
    named = {name: item.get("content") if isinstance(item, dict) else item for name, item in roles.items()}
    return {name: item for name, item in named.items() if isinstance(item, str)}
