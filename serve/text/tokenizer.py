"""Convert prompts to tokens with the tokenizer file beside the text graph.

Two kinds are supported: CLIP's byte-pair encoding with the original's cleaning, and any file of the `tokenizers`
library. A special token written in a label is ordinary text; the original reads it as the token, which
`encode_reference` reproduces for comparisons.
"""

import gzip
import html
import json
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import regex
from tokenizers import Tokenizer as TokenizerFile

from serve.arrays import Int64Array
from serve.contract import TextContract
from serve.errors import ContractError, InvalidVocabulary

START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_MERGES = 49152 - 256 - 2
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"  # contraction tails, letters, one digit, the rest
PUNCTUATION = str.maketrans("", "", string.punctuation)
SPECIAL = regex.compile(f"({regex.escape(START)}|{regex.escape(END)})")


class Tokenizer:
    """Encodes prompts; rows have start and end tokens and no padding."""

    def __init__(self, file: TokenizerFile, text: TextContract) -> None:
        self._file = file
        self._text = text
        file.no_truncation()
        file.no_padding()
        self._is_clip = text.tokenizer == "clip"
        if self._is_clip:
            self._start, self._end = _clip_ends(file)
        else:
            file.encode_special_tokens = True  # those inside a label are ordinary text

    @property
    def num_tokens(self) -> int:
        """Return the number of rows that a table of token embeddings needs."""
        return self._file.get_vocab_size(with_added_tokens=True)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text.

        Raises:
            InvalidVocabulary: a text has more tokens than the model's context; names the text.
        """
        rows = self.rows(texts)
        self._check_lengths(texts, rows)
        zeroed = self._text.zeroed_token_id
        if zeroed is not None:
            rows = [[0 if token == zeroed else token for token in row] for row in rows]
        return rows

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, also of texts that are too long for the model."""
        if self._is_clip:
            encoded = self._file.encode_batch_fast([clean(text) for text in texts], add_special_tokens=False)
            return [[self._start, *row.ids, self._end] for row in encoded]
        cleaned = [CLEANINGS[self._text.cleaning](text) for text in texts]
        return [row.ids for row in self._file.encode_batch_fast(cleaned, add_special_tokens=True)]

    def encode_reference(self, text: str) -> list[int]:
        """Return token ids as the original CLIP tokenizer does, with special tokens in the text.

        Raises:
            InvalidVocabulary: the text has more tokens than the context.
        """
        ids = [self._start]
        for piece in SPECIAL.split(clean(text)):
            if piece in (START, END):
                ids.append(self._start if piece == START else self._end)
            elif piece:
                ids.extend(self._file.encode(piece, add_special_tokens=False).ids)
        ids.append(self._end)
        self._check_lengths([text], [ids])
        return ids

    def _check_lengths(self, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
        limit = self._text.context_length
        for text, row in zip(texts, rows, strict=True):
            if len(row) > limit:
                shown = text if len(text) <= 80 else f"{text[:77]}..."
                raise InvalidVocabulary(
                    f"the prompt {shown!r} has {len(row)} tokens, the model takes {limit}",
                    num_tokens=len(row),
                    limit=limit,
                )


def load_tokenizer(path: Path, text: TextContract) -> Tokenizer:
    """Load a tokenizer from a file in the `tokenizers` format.

    Raises:
        ContractError: the file cannot be read, or is not of the contract's kind.
    """
    try:
        return Tokenizer(TokenizerFile.from_file(str(path)), text)
    except ContractError:
        raise
    except Exception as error:  # the library raises bare exceptions
        raise ContractError(
            f"the tokenizer file {path.name} cannot be read: {error}", field="tokenizer_file"
        ) from error


def pad_rows(rows: Sequence[Sequence[int]], *, pad_id: int, length: int | None = None) -> Int64Array:
    """Return rows [R, L], padded on the right to `length`, or to the longest row."""
    width = max(len(row) for row in rows) if length is None else length
    padded = np.full((len(rows), width), pad_id, np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def clean(text: str) -> str:
    """Clean text as CLIP does: repair Unicode, unescape HTML twice, collapse white space, lower case."""
    return regex.sub(r"\s+", " ", _fixed_text(text)).strip().lower()


def canonicalize(text: str) -> str:
    """Clean text as SigLIP does: repair Unicode, remove punctuation, lower case, collapse white space."""
    return " ".join(_fixed_text(text).replace("_", " ").translate(PUNCTUATION).lower().split())


def _fixed_text(text: str) -> str:
    if text.isascii() and text.isprintable() and "&" not in text:  # nothing to repair
        return text.strip()
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def collapse_whitespace(text: str) -> str:
    """Clean text as open_clip does for Hugging Face tokenizers: repair Unicode, collapse white space."""
    return " ".join(_fixed_text(text).split())


CLEANINGS: dict[str, Callable[[str], str]] = {
    "none": str,
    "whitespace": collapse_whitespace,
    "lower": clean,
    "canonicalize": canonicalize,
}


def clip_tokenizer_json(merges: Path) -> str:
    """Return a `tokenizers` file for CLIP's byte-pair encoding, from `bpe_simple_vocab_16e6.txt.gz`.

    Order of the vocabulary: 256 byte symbols, the same at a word's end, the merges, start and end of text.
    """
    with gzip.open(merges, "rt", encoding="utf-8") as stream:
        lines = stream.read().split("\n")[1 : CLIP_MERGES + 1]
    symbols = byte_symbols()
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *(line.replace(" ", "") for line in lines), START, END]
    return tokenizer_json({word: index for index, word in enumerate(words)}, lines)


def tokenizer_json(vocabulary: dict[str, int], merges: Sequence[str]) -> str:
    """Return a `tokenizers` file for a CLIP-style byte-pair encoding."""
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


def _clip_ends(file: TokenizerFile) -> tuple[int, int]:
    start, end = file.token_to_id(START), file.token_to_id(END)
    if start is None or end is None:
        raise ContractError(f"the tokenizer file has no {START} and {END}: it is not CLIP's", field="text.tokenizer")
    return start, end
