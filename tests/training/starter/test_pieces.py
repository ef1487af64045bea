"""Word pieces of another tokenizer's tokens."""

import numpy as np
import pytest

from training.starter.pieces import build_piece_tables, split_token
from training.starter.unigram import NORMAL, Piece, UnigramModel

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "eating", "##ea", "##t", "cafe", "c", "##a", "##f", "##e")
VOCABULARY = {word: index for index, word in enumerate(WORDS)}


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("▁playing", ["play", "##ing"]),
        ("▁Café", ["cafe"]),
        ("ing", ["##ing"]),
        ("eating", ["eating"]),  # fewer pieces as a word of its own than as the end of one
        ("▁跳", []),
        ("▁", []),
    ],
)
def test_tokens_are_split(token: str, expected: list[str]) -> None:
    assert split_token(token, VOCABULARY) == [VOCABULARY[word] for word in expected]


def test_tables_count_the_letters_that_are_english() -> None:
    texts = ("<unk>", "<s>", "</s>", "▁playing", "▁", "eating", "▁跳舞")
    pieces = tuple(Piece(text=text, score=0.0, kind=NORMAL if index > 2 else 3) for index, text in enumerate(texts))
    found, letters = build_piece_tables(UnigramModel(pieces=pieces, character_map=b""), VOCABULARY)
    assert letters.tolist() == [[0, 0], [0, 0], [0, 0], [7, 3.5], [0, 0], [6, 6], [2, 0]]
    assert found[3].tolist() == [4, 5, 0, 0]
    assert found[6].tolist() == [VOCABULARY["[UNK]"], 0, 0, 0]
    assert found[1, 0] == VOCABULARY["[CLS]"] and found[2, 0] == VOCABULARY["[SEP]"]
    assert not np.any(found[4])
