"""Read the special tokens of a tokenizer file and the configuration beside it.

Hubs store `tokenizer.json`, which has the ids, beside `tokenizer_config.json`, which names the tokens. Without the
latter, the padding of `tokenizer.json` is used, then the known values of the model's tokenizer.
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
    """Return the text contract for a file of the `tokenizers` library.

    Raises:
        CheckpointError: the file cannot be read, or lacks a token that the model needs.
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
        raise CheckpointError(f"{name}: the tokenizer file has no token {token!r}; give the file of this model")
    return int(found)


def _named_tokens(path: Path) -> dict[str, str]:
    """Return the special tokens of `tokenizer_config.json` by role; empty without that file."""
    if not path.is_file():
        return {}
    try:
        document = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    roles = {name: item for name, item in document.items() if name.endswith("_token")}
    named = {name: item.get("content") if isinstance(item, dict) else item for name, item in roles.items()}
    return {name: item for name, item in named.items() if isinstance(item, str)}
