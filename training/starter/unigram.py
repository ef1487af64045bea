"""Convert a SentencePiece unigram model to a file of the `tokenizers` library, with equal token ids.

The library applies the normaliser's character map to whole graphemes, which drops marks after compatibility characters,
so text is normalised to NFKC before. The fullwidth tilde, the only character that NFKC changes but the map keeps, is
replaced temporarily. Control pieces get names that cannot occur in normalised text.
"""

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NORMAL, UNKNOWN = 1, 2  # types of a piece
START_ID, END_ID = 1, 2
KEPT, ASIDE = "～", "\ue000"  # a private use character
SPACE = "▁"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One token of the vocabulary; `score` is its log probability."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, kw_only=True)
class UnigramModel:
    """The parts of a SentencePiece file that are used."""

    pieces: tuple[Piece, ...]
    character_map: bytes


def read_unigrams(data: bytes) -> UnigramModel:
    """Parse a SentencePiece `ModelProto`: its pieces (field 1) and its normaliser's character map (3, then 2)."""
    pieces, character_map = [], b""
    for number, value in _fields(data):
        if number == 1:
            parts = dict(_fields(value))
            score = struct.unpack("<f", parts.get(2, b"\0\0\0\0"))[0]
            kind = int.from_bytes(parts.get(3, b"\x01"), "little")
            pieces.append(Piece(text=parts[1].decode(), score=score, kind=kind))
        elif number == 3:
            character_map = dict(_fields(value))[2]
    return UnigramModel(pieces=tuple(pieces), character_map=character_map)


def tokenizer_json(model: UnigramModel) -> str:
    """Return a `tokenizers` file that adds start and end tokens to each text."""
    names = [piece.text if piece.kind == NORMAL else f"\x01{piece.text}" for piece in model.pieces]
    start, end = names[START_ID], names[END_ID]
    whole = {"Sequence": {"id": "A", "type_id": 0}}
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(names[index], index) for index in range(END_ID + 1)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                _replaced({"String": KEPT}, ASIDE),
                {"type": "NFKC"},
                {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.character_map).decode()},
                _replaced({"String": ASIDE}, KEPT),
                _replaced({"Regex": " {2,}"}, " "),
                {"type": "Strip", "strip_left": True, "strip_right": True},
            ],
        },
        "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special(start), whole, _special(end)],
            "pair": [whole, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                name: {"id": name, "ids": [index], "tokens": [name]} for name, index in ((start, 1), (end, 2))
            },
        },
        "decoder": None,
        "model": {
            "type": "Unigram",
            "unk_id": next(index for index, piece in enumerate(model.pieces) if piece.kind == UNKNOWN),
            "vocab": [[name, piece.score] for name, piece in zip(names, model.pieces, strict=True)],
            "byte_fallback": False,
        },
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _added(name: str, index: int) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": name, **plain, "special": True}


def _replaced(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _special(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, content) of the fields of a protocol buffer message; integers are little-endian bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        match key & 7:
            case 0:
                value, place = _varint(data, place)
                content = value.to_bytes(8, "little")
            case 1:
                content, place = data[place : place + 8], place + 8
            case 2:
                length, place = _varint(data, place)
                content, place = data[place : place + length], place + length
            case 5:
                content, place = data[place : place + 4], place + 4
            case other:
                raise ValueError(f"wire type {other} of a protocol buffer is not supported")
        yield key >> 3, content


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value, shift, place = value | (byte & 0x7F) << shift, shift + 7, place + 1
        if byte < 0x80:
            return value, place
