"""The index of a feedback folder, one JSON document per line: the server writes it, training reads it.

A line that was cut when a process died, or that cannot be understood, is left out; it never spoils the others.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from serve import strict_json

INDEX, CLIPS = "feedback.jsonl", "clips"
FILE = re.compile(r"[0-9a-f]{32}(\.[a-z0-9]{1,5})?")  # names the server makes; a path of a client is never used


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """A clip that was sent, and its right label."""

    feedback_id: str
    file: str  # name below `clips`
    sha256: str
    num_bytes: int
    label: str
    created_at: str  # ISO 8601, UTC
    vocabulary: str | None = None  # name@version, where the caller named one
    is_new_label: bool | None = None  # that vocabulary has no such label
    predicted: str | None = None  # what the server had said
    request_id: str | None = None  # of that answer
    note: str | None = None
    key_id: str | None = None  # of the API key that sent it; None without keys, and in rows of earlier versions


def line_of(row: Feedback) -> bytes:
    """Return a row as a line with its end."""
    return json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n"


def read_index(folder: Path) -> tuple[list[Feedback], int]:
    """Read (rows in order, invalid lines); both are empty without an index.

    Raises:
        OSError: the index cannot be read.
    """
    try:
        content = (folder / INDEX).read_bytes()
    except FileNotFoundError:
        return [], 0
    lines = [line for line in content.split(b"\n") if line.strip()]
    rows = [row for row in map(_row_of, lines) if row is not None]
    return rows, len(lines) - len(rows)


def clip_path(folder: Path, row: Feedback) -> Path:
    """Return the path of the clip of a row."""
    return folder / CLIPS / row.file


def _row_of(line: bytes) -> Feedback | None:
    try:
        found = strict_json.loads(line)
    except strict_json.InvalidJson:
        return None
    return Feedback(**found) if isinstance(found, Mapping) and _is_whole(found) else None


def _is_whole(found: Mapping[str, Any]) -> bool:
    texts = ("feedback_id", "file", "sha256", "label", "created_at")
    optional = ("vocabulary", "predicted", "request_id", "note", "key_id")
    return (
        found.keys() | {"key_id"} == {field.name for field in fields(Feedback)}
        and all(isinstance(found[name], str) for name in texts)
        and all(found.get(name) is None or isinstance(found[name], str) for name in optional)
        and type(found["num_bytes"]) is int
        and (found["is_new_label"] is None or isinstance(found["is_new_label"], bool))
        and FILE.fullmatch(found["file"]) is not None
        and bool(found["label"].strip())
    )
