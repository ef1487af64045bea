"""Split tokens of another tokenizer into word pieces of BERT's English vocabulary."""

import json
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.models.gated_text import MAX_PIECES
from training.starter.unigram import END_ID, NORMAL, SPACE, START_ID, UnigramModel

CONTINUED = "##"


def piece_vocabulary(tokenizer: str) -> dict[str, int]:
    """Return word piece -> id of a tokenizer.json with a WordPiece model."""
    vocabulary: dict[str, int] = json.loads(tokenizer)["model"]["vocab"]
    return vocabulary


def piece_tables(model: UnigramModel, vocabulary: Mapping[str, int]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return for each token of a unigram model its word pieces [V, 4] (0: none), and its letter counts [V, 2].

    Letter counts are all letters and English letters. A token of one word piece counts fully as English, one of n
    pieces by 1/n, one without pieces not at all. Start and end tokens become BERT's and have no letters.
    """
    pieces = np.zeros((len(model.pieces), MAX_PIECES), np.int32)
    letters = np.zeros((len(model.pieces), 2), np.float32)
    pieces[START_ID, 0], pieces[END_ID, 0] = vocabulary["[CLS]"], vocabulary["[SEP]"]
    for index, piece in enumerate(model.pieces):
        text = piece.text.lstrip(SPACE)
        if piece.kind != NORMAL or not text:
            continue
        found = split_token(piece.text, vocabulary)
        letters[index] = len(text), len(text) / len(found) if found else 0
        shown = (found or [vocabulary["[UNK]"]])[:MAX_PIECES]
        pieces[index, : len(shown)] = shown
    return pieces, letters


def keep_used(pieces: NDArray[np.int32], rows: Sequence[Sequence[int]]) -> tuple[list[int], NDArray[np.int32]]:
    """Return (word pieces used by tokens or `rows`, `pieces` as indices of them); index 0 is no piece."""
    kept = sorted({0, *np.unique(pieces).tolist(), *(piece for row in rows for piece in row)})
    return kept, np.searchsorted(kept, pieces).astype(np.int32)


def split_token(token: str, vocabulary: Mapping[str, int]) -> list[int]:
    """Return the word pieces of a token; empty if a part of it has no piece.

    A token that begins a word is split as in BERT. Another token may continue a word, or begin one if the unigram model
    has the space before it as a separate token; the split with fewer pieces is used.
    """
    text = _plain(token.lstrip(SPACE))
    readings = [_greedy(text, vocabulary, is_start=True)]
    if not token.startswith(SPACE):
        readings.insert(0, _greedy(text, vocabulary, is_start=False))
    possible = [reading for reading in readings if reading]
    return min(possible, key=len) if possible else []


def _plain(text: str) -> str:
    """Return lower case without accents, as in BERT's uncased vocabulary."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(character for character in decomposed if unicodedata.category(character) != "Mn")


def _greedy(text: str, vocabulary: Mapping[str, int], *, is_start: bool) -> list[int]:
    found: list[int] = []
    place = 0
    while place < len(text):
        before = "" if is_start and place == 0 else CONTINUED
        stop = next((end for end in range(len(text), place, -1) if before + text[place:end] in vocabulary), None)
        if stop is None:
            return []
        found.append(vocabulary[before + text[place:stop]])
        place = stop
    return found
