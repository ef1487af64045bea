"""Facts of MP4, MOV and HEIF files that FFmpeg does not report, read from the boxes (ISO/IEC 14496-12, 23008-12).

Every size and count comes from an upload: reads are bounded, and unreadable parts are ignored.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_BOXES = 100_000  # at the top of a file: fragmented recordings have two for each fragment
MAX_INDEX_BYTES = 64 * 2**20
_KIND = re.compile(rb"[ -~\xa9]{4}")


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its four-character type, where its payload starts, and where it ends (possibly beyond the file)."""

    kind: bytes
    start: int
    stop: int


def top_boxes(stream: BinaryIO, size: int) -> tuple[list[Box], int]:
    """Return the top-level boxes of a file of `size` bytes, and the position where they end."""
    found: list[Box] = []
    position = 0
    while position + 8 <= size and len(found) < MAX_BOXES:
        stream.seek(position)
        box = _box(stream.read(16), position, size)
        if box is None:
            break
        found.append(box)
        position = box.stop
    return found, min(position, size)


def children(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, payload) of the boxes inside a payload, truncated at its end."""
    position = 0
    while position + 8 <= len(data):
        box = _box(data[position : position + 16], position, len(data))
        if box is None:
            return
        yield box.kind, data[box.start : box.stop]
        position = box.stop


def child(data: bytes, *path: bytes) -> bytes:
    """Return the payload of the first box along a path of types; empty if there is none."""
    for kind in path:
        data = next((payload for name, payload in children(data) if name == kind), b"")
    return data


def brands(ftyp: bytes) -> set[bytes]:
    """Return the major and compatible brands of an `ftyp` payload."""
    return {ftyp[:4]} | {ftyp[i : i + 4] for i in range(8, len(ftyp) - 3, 4)}


def handlers(path: Path) -> dict[int, bytes]:
    """Return the handler type (`vide`, `pict`, `auxv` ...) by track id; empty if the file has no `moov` box."""
    with path.open("rb") as stream:
        size = path.stat().st_size
        moov = next((box for box in top_boxes(stream, size)[0] if box.kind == b"moov"), None)
        if moov is None:
            return {}
        stream.seek(moov.start)
        data = stream.read(min(moov.stop - moov.start, MAX_INDEX_BYTES))
    found = {}
    for kind, track in children(data):
        if kind == b"trak":
            header = child(track, b"tkhd")
            at = 20 if header[:1] == b"\x01" else 12  # 64-bit times in version 1
            found[int.from_bytes(header[at : at + 4], "big")] = child(track, b"mdia", b"hdlr")[8:12]
    return found


def primary_item_type(meta: bytes) -> bytes:
    """Return the type (`av01`, `hvc1`, `grid` ...) of the primary item of a HEIF `meta` payload; empty if not found."""
    boxes = meta[4:]  # after version and flags
    pitm, iinf = child(boxes, b"pitm"), child(boxes, b"iinf")
    primary = int.from_bytes(pitm[4:6] if pitm[:1] == b"\0" else pitm[4:8], "big")
    for kind, entry in children(iinf[6:] if iinf[:1] == b"\0" else iinf[8:]):
        width = 4 if entry[:1] == b"\3" else 2  # bytes of an item's id
        if kind == b"infe" and int.from_bytes(entry[4 : 4 + width], "big") == primary:
            return entry[6 + width : 10 + width]
    return b""


def _box(header: bytes, position: int, end: int) -> Box | None:
    length, kind, head = int.from_bytes(header[:4], "big"), header[4:8], 8
    if length == 1:
        length, head = int.from_bytes(header[8:16], "big"), 16
    elif length == 0:
        length = end - position
    if length < head or not _KIND.fullmatch(kind):
        return None
    return Box(kind, position + head, position + length)
