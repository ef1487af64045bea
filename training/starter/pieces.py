"""Map the tokens of a SentencePiece unigram model to word pieces of BERT's English vocabulary."""

import json
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.models.gated_text import MAX_PIECES
from training.starter.unigram import END_ID, NORMAL, SPACE, START_ID, UnigramModel

CONTINUATION_PREFIX = "##"


def read_piece_vocabulary(tokenizer: str) -> dict[str, int]:
    """Return the id of each word piece, from the content of a tokenizer.json with a WordPiece model."""
    vocabulary: dict[str, int] = json.loads(tokenizer)["model"]["vocab"]
    return vocabulary


def build_piece_tables(
    model: UnigramModel, vocabulary: Mapping[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the word pieces [V, 4] of each token of a unigram model (padded with 0), and its letter counts [V, 2].

    The letter counts are (letters, English letters). The letters of a token with n word pieces count as English with
    the weight 1/n, those of a token without word pieces with 0. The start and end tokens map to BERT's and have no
    letters.
    """
    pieces = np.zeros((len(model.pieces), MAX_PIECES), np.int32)
    letters = np.zeros((len(model.pieces), 2), np.float32)
    pieces[START_ID, 0], pieces[END_ID, 0] = vocabulary["[CLS]"], vocabulary["[SEP]"]
    for index, piece in enumerate(model.pieces):
        text = piece.text.lstrip(SPACE)
        if piece.kind != NORMAL or not text:
            continue
        word_pieces = split_token(piece.text, vocabulary)
        letters[index] = len(text), len(text) / len(word_pieces) if word_pieces else 0
        stored = (word_pieces or [vocabulary["[UNK]"]])[:MAX_PIECES]
        pieces[index, : len(stored)] = stored
    return pieces, letters


def remap_used(pieces: NDArray[np.int32], texts: Sequence[Sequence[int]]) -> tuple[list[int], NDArray[np.int32]]:
    """Return (ids of the word pieces that occur in `pieces` or `texts`, `pieces` as indices into these ids).

    The first id is 0, which stands for "no piece".
    """
    used = sorted({0, *np.unique(pieces).tolist(), *(piece for text in texts for piece in text)})
    return used, np.searchsorted(used, pieces).astype(np.int32)


def split_token(token: str, vocabulary: Mapping[str, int]) -> list[int]:
    """Return the ids of the word pieces of a token; empty if it cannot be split completely.

    A token with a leading space begins a word and is split as in BERT. Any other token continues a word, or begins one
    if the preceding space is a separate token, so both splits are tried and the shorter one is used.
    """
    text = _strip_accents(token.lstrip(SPACE))
    splits = [_match_greedily(text, vocabulary, is_start=True)]
    if not token.startswith(SPACE):
        splits.insert(0, _match_greedily(text, vocabulary, is_start=False))
    complete = [split for split in splits if split]
    return min(complete, key=len) if complete else []


def _strip_accents(text: str) -> str:
    """Return the text in lower case without accents, as in BERT's uncased vocabulary."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(character for character in decomposed if unicodedata.category(character) != "Mn")


def _match_greedily(text: str, vocabulary: Mapping[str, int], *, is_start: bool) -> list[int]:
    """Split a text into the longest word pieces from left to right; empty if a part has no piece."""
    ids: list[int] = []
    start = 0
    while start < len(text):
        prefix = "" if is_start and start == 0 else CONTINUATION_PREFIX
        stop = next((end for end in range(len(text), start, -1) if prefix + text[start:end] in vocabulary), None)
        if stop is None:
            return []
        ids.append(vocabulary[prefix + text[start:stop]])
        start = stop
    return ids
