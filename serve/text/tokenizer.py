"""Convert prompts to tokens with the tokenizer file that is stored with the text graph.

Two kinds are supported: CLIP's byte-pair encoding with CLIP's text cleaning, and any file of the `tokenizers` library.
A special token that occurs in a label is treated as ordinary text. The original CLIP code converts it to the token;
`encode_reference` reproduces that for comparisons.
"""

import gzip
import html
import json
import string
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import regex
import tokenizers

from serve.arrays import Int64Array
from serve.contract import TextContract
from serve.errors import ContractError, InvalidVocabulary

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_ADDED_TOKENS = 4  # start, end and a word boundary, which stand for no character; one to spare
CHECK_BATCH_SIZE = 4096
NUM_CLIP_MERGES = 49152 - 256 - 2
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"  # contractions, letters, one digit, other
PUNCTUATION = str.maketrans("", "", string.punctuation)
SPECIAL = regex.compile(f"({regex.escape(START)}|{regex.escape(END)})")


class Tokenizer:
    """Encodes prompts to token ids with start and end tokens, without padding."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, contract: TextContract) -> None:
        self._tokenizer = tokenizer
        self._contract = contract
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._is_clip = contract.tokenizer == "clip"
        if self._is_clip:
            self._start_id, self._end_id = _clip_boundary_ids(tokenizer)
        else:
            tokenizer.encode_special_tokens = True  # special tokens inside a label are ordinary text

    @property
    def num_tokens(self) -> int:
        """Return the size of the token vocabulary, i.e. the number of token embeddings."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text.

        Raises:
            InvalidVocabulary: a text has more tokens than the model's context; the message contains the text.
        """
        token_ids = self.tokenize(texts)
        self._check_lengths(texts, token_ids)
        zeroed = self._contract.zeroed_token_id
        if zeroed is not None:
            token_ids = [[0 if token == zeroed else token for token in ids] for ids in token_ids]
        return token_ids

    def check(self, texts: Iterable[str]) -> None:
        """Check that texts can be encoded, in batches of bounded memory.

        Each token stands for at least one character of plain ASCII text, so that short texts need not be encoded.

        Raises:
            InvalidVocabulary: see `encode`.
        """
        limit = self._contract.context_length - MAX_ADDED_TOKENS
        uncertain = (text for text in texts if len(text) > limit or not is_plain(text))
        while batch := list(islice(uncertain, CHECK_BATCH_SIZE)):
            self.encode(batch)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text without checking the length or replacing tokens."""
        if self._is_clip:
            encoded = self._tokenizer.encode_batch_fast([clean(text) for text in texts], add_special_tokens=False)
            return [[self._start_id, *encoding.ids, self._end_id] for encoding in encoded]
        cleaned = [CLEANINGS[self._contract.cleaning](text) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cleaned, add_special_tokens=True)]

    def encode_reference(self, text: str) -> list[int]:
        """Return the token ids of the original CLIP tokenizer, which converts special tokens in the text.

        Raises:
            InvalidVocabulary: the text has more tokens than the context.
        """
        ids = [self._start_id]
        for piece in SPECIAL.split(clean(text)):
            if piece in (START, END):
                ids.append(self._start_id if piece == START else self._end_id)
            elif piece:
                ids.extend(self._tokenizer.encode(piece, add_special_tokens=False).ids)
        ids.append(self._end_id)
        self._check_lengths([text], [ids])
        return ids

    def _check_lengths(self, texts: Sequence[str], token_ids: Sequence[Sequence[int]]) -> None:
        limit = self._contract.context_length
        for text, ids in zip(texts, token_ids, strict=True):
            if len(ids) > limit:
                shown = text if len(text) <= 80 else f"{text[:77]}..."
                raise InvalidVocabulary(
                    f"the prompt {shown!r} has {len(ids)} tokens, the model takes at most {limit}",
                    num_tokens=len(ids),
                    limit=limit,
                )


def load_tokenizer(path: Path, contract: TextContract) -> Tokenizer:
    """Load a tokenizer from a `tokenizer.json` file.

    Raises:
        ContractError: the file cannot be read, or is not of the kind that the contract requires.
    """
    try:
        return Tokenizer(tokenizers.Tokenizer.from_file(str(path)), contract)
    except ContractError:
        raise
    except Exception as error:  # the library raises plain `Exception`
        raise ContractError(
            f"the tokenizer file {path.name} cannot be read: {error}", field="tokenizer_file"
        ) from error


def pad_tokens(token_ids: Sequence[Sequence[int]], *, pad_id: int, length: int | None = None) -> Int64Array:
    """Return token ids as an array [R, L], padded on the right to `length` or to the longest sequence."""
    width = max(len(ids) for ids in token_ids) if length is None else length
    padded = np.full((len(token_ids), width), pad_id, np.int64)
    for index, ids in enumerate(token_ids):
        padded[index, : len(ids)] = ids
    return padded


def clean(text: str) -> str:
    """Clean text as CLIP does: repair Unicode, unescape HTML twice, collapse whitespace, lower case."""
    return regex.sub(r"\s+", " ", _repair(text)).strip().lower()


def canonicalize(text: str) -> str:
    """Clean text as SigLIP does: repair Unicode, remove punctuation, lower case, collapse whitespace."""
    return " ".join(_repair(text).replace("_", " ").translate(PUNCTUATION).lower().split())


def is_plain(text: str) -> bool:
    """Return whether a text is printable ASCII without HTML entities, which no cleaning makes longer."""
    return text.isascii() and text.isprintable() and "&" not in text


def _repair(text: str) -> str:
    """Repair Unicode, unescape HTML twice and strip."""
    if is_plain(text):  # nothing to repair
        return text.strip()
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def collapse_whitespace(text: str) -> str:
    """Clean text as open_clip does for Hugging Face tokenizers: repair Unicode, collapse whitespace."""
    return " ".join(_repair(text).split())


CLEANINGS: dict[str, Callable[[str], str]] = {
    "none": str,
    "whitespace": collapse_whitespace,
    "lower": clean,
    "canonicalize": canonicalize,
}


def clip_tokenizer_json(merges: Path) -> str:
    """Return the content of a `tokenizer.json` for CLIP's byte-pair encoding, from `bpe_simple_vocab_16e6.txt.gz`.

    The vocabulary consists of the 256 byte symbols, the byte symbols at the end of a word, the merges, and the start
    and end tokens, in this order.
    """
    with gzip.open(merges, "rt", encoding="utf-8") as stream:
        lines = stream.read().split("\n")[1 : NUM_CLIP_MERGES + 1]
    symbols = byte_symbols()
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *(line.replace(" ", "") for line in lines), START, END]
    return tokenizer_json({word: index for index, word in enumerate(words)}, lines)


def tokenizer_json(vocabulary: dict[str, int], merges: Sequence[str]) -> str:
    """Return the content of a `tokenizer.json` for a CLIP-style byte-pair encoding."""
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": END,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "</w>",
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": vocabulary,
        "merges": list(merges),
    }
    split = {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": True}
    to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, to_bytes]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": model,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def byte_symbols() -> list[str]:
    """Return a printable symbol for each byte, in the order of CLIP's vocabulary: printable bytes first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, printable), *(chr(256 + index) for index in range(256 - len(printable)))]


def _clip_boundary_ids(tokenizer: tokenizers.Tokenizer) -> tuple[int, int]:
    """Return the ids of CLIP's start and end tokens."""
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    if start is None or end is None:
        raise ContractError(
            f"the tokenizer file is not CLIP's: it must contain {START} and {END}", field="text.tokenizer"
        )
    return start, end
