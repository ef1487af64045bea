"""Convert a SentencePiece unigram model to a `tokenizer.json` that produces the same token ids.

The `tokenizers` library applies the normaliser's character map to whole graphemes, so it loses combining marks that
follow compatibility characters. The text is therefore NFKC-normalised first. NFKC changes one character that the map
does not change, the fullwidth tilde, which is replaced by a placeholder during normalisation. Control pieces get names
that cannot occur in normalised text.
"""

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NORMAL, UNKNOWN = 1, 2  # SentencePiece's types of pieces
START_ID, END_ID = 1, 2
FULLWIDTH_TILDE, TILDE_PLACEHOLDER = "～", "\ue000"  # the placeholder is a private use character
SPACE = "▁"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One token of the vocabulary."""

    text: str
    score: float  # log probability
    kind: int  # NORMAL, UNKNOWN or another type


@dataclass(frozen=True, kw_only=True)
class UnigramModel:
    """The parts of a SentencePiece model that the conversion uses."""

    pieces: tuple[Piece, ...]
    character_map: bytes


def parse_unigram_model(data: bytes) -> UnigramModel:
    """Parse a SentencePiece `ModelProto`: `pieces` (field 1) and `normalizer_spec.precompiled_charsmap` (3 and 2)."""
    pieces, character_map = [], b""
    for number, value in _iterate_fields(data):
        if number == 1:
            parts = dict(_iterate_fields(value))
            score = struct.unpack("<f", parts.get(2, b"\0\0\0\0"))[0]
            kind = int.from_bytes(parts.get(3, b"\x01"), "little")
            pieces.append(Piece(text=parts[1].decode(), score=score, kind=kind))
        elif number == 3:
            character_map = dict(_iterate_fields(value))[2]
    return UnigramModel(pieces=tuple(pieces), character_map=character_map)


def make_tokenizer_json(model: UnigramModel) -> str:
    """Return the content of a tokenizer.json that adds start and end tokens to each text."""
    names = [piece.text if piece.kind == NORMAL else f"\x01{piece.text}" for piece in model.pieces]
    start, end = names[START_ID], names[END_ID]
    sequence_a = {"Sequence": {"id": "A", "type_id": 0}}
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(names[index], index) for index in range(END_ID + 1)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                _replace({"String": FULLWIDTH_TILDE}, TILDE_PLACEHOLDER),
                {"type": "NFKC"},
                {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.character_map).decode()},
                _replace({"String": TILDE_PLACEHOLDER}, FULLWIDTH_TILDE),
                _replace({"Regex": " {2,}"}, " "),
                {"type": "Strip", "strip_left": True, "strip_right": True},
            ],
        },
        "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special_token(start), sequence_a, _special_token(end)],
            "pair": [sequence_a, {"Sequence": {"id": "B", "type_id": 0}}],
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


def _added_token(name: str, index: int) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": name, **plain, "special": True}


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _special_token(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _iterate_fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, content) of the fields of a protocol buffer message; integers become little-endian bytes."""
    offset = 0
    while offset < len(data):
        key, offset = _read_varint(data, offset)
        match key & 7:
            case 0:
                value, offset = _read_varint(data, offset)
                content = value.to_bytes(8, "little")
            case 1:
                content, offset = data[offset : offset + 8], offset + 8
            case 2:
                length, offset = _read_varint(data, offset)
                content, offset = data[offset : offset + length], offset + length
            case 5:
                content, offset = data[offset : offset + 4], offset + 4
            case other:
                raise ValueError(f"protocol buffer wire type {other} is not supported")
        yield key >> 3, content


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return (value, offset after it)."""
    value = shift = 0
    while True:
        byte = data[offset]
        value, shift, offset = value | (byte & 0x7F) << shift, shift + 7, offset + 1
        if byte < 0x80:
            return value, offset
