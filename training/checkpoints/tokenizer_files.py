"""A tokenizer file of the caller: what it and the configuration beside it say of its special tokens.

Hubs keep `tokenizer.json` beside `tokenizer_config.json`, which names the tokens; the ids stand in the first. Where the
second is absent, the padding written into `tokenizer.json` counts, then what is known of the model's own tokenizer.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as TokenizerFile

from serve import strict_json
from serve.contract import TextContract
from training.checkpoints.native_format import CheckpointError

CONFIG = "tokenizer_config.json"
SEPARATOR = "[SEP]"  # BERT's


def with_tokenizer_file(text: TextContract, path: Path) -> TextContract:
    """Return the contract of texts that become tokens by a file of the `tokenizers` library.

    Raises:
        CheckpointError: the file cannot be read, or lacks a token that the model's rows need.
    """
    try:
        file = TokenizerFile.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise CheckpointError(f"the tokenizer file {path} cannot be read: {error}") from error
    names = _named_tokens(path.parent / CONFIG)
    changes: dict[str, Any] = {"tokenizer": "tokenizers", "pad_id": _pad_id(file, names, text.pad_id)}
    if text.zeroed_token_id is not None:
        changes["zeroed_token_id"] = _id_of(file, names.get("sep_token", SEPARATOR), "sep_token")
    return replace(text, **changes)


def _pad_id(file: TokenizerFile, names: Mapping[str, str], known: int) -> int:
    if "pad_token" in names:
        return _id_of(file, names["pad_token"], "pad_token")
    return int(file.padding["pad_id"]) if file.padding else known


def _id_of(file: TokenizerFile, token: str, name: str) -> int:
    found = file.token_to_id(token)
    if found is None:
        raise CheckpointError(f"{name}: the tokenizer file has no token {token!r}; is it the model's own?")
    return int(found)


def _named_tokens(path: Path) -> dict[str, str]:
    """Special tokens by their role, as `tokenizer_config.json` names them; empty without that file."""
    if not path.is_file():
        return {}
    try:
        document = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    roles = {name: item for name, item in document.items() if name.endswith("_token")}
    named = {name: item.get("content") if isinstance(item, dict) else item for name, item in roles.items()}
    return {name: item for name, item in named.items() if isinstance(item, str)}
