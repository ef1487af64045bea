"""Read metadata that FFmpeg does not report from the boxes of MP4, MOV and HEIF files (ISO/IEC 14496-12, 23008-12).

Sizes and counts come from an upload and are not trusted: reads are bounded, and invalid boxes are ignored.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from serve.video.video_file import VideoFile

MAX_BOXES = 100_000  # at the top level of a file; a fragmented recording has two boxes for each fragment
MAX_INDEX_BYTES = 64 * 2**20
_KIND = re.compile(rb"[ -~\xa9]{4}")


@dataclass(frozen=True, slots=True)
class Box:
    """Header of one box."""

    kind: bytes  # four-character type
    start: int  # file position of the payload
    stop: int  # file position after the payload; beyond the end of a truncated file


def read_top_boxes(stream: BinaryIO, size: int) -> tuple[list[Box], int]:
    """Return the headers of the top-level boxes of a file of `size` bytes, and the position after the last box."""
    boxes: list[Box] = []
    position = 0
    while position + 8 <= size and len(boxes) < MAX_BOXES:
        stream.seek(position)
        box = _parse_header(stream.read(16), position, size)
        if box is None:
            break
        boxes.append(box)
        position = box.stop
    return boxes, min(position, size)


def child_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, payload) of the boxes inside a payload; a box that exceeds it is truncated."""
    position = 0
    while position + 8 <= len(data):
        box = _parse_header(data[position : position + 16], position, len(data))
        if box is None:
            return
        yield box.kind, data[box.start : box.stop]
        position = box.stop


def find_box(data: bytes, *path: bytes) -> bytes:
    """Return the payload of the first box along a path of types; empty if there is none."""
    for kind in path:
        data = next((payload for name, payload in child_boxes(data) if name == kind), b"")
    return data


def parse_brands(ftyp: bytes) -> set[bytes]:
    """Return the major and compatible brands of an `ftyp` payload."""
    return {ftyp[:4]} | {ftyp[i : i + 4] for i in range(8, len(ftyp) - 3, 4)}


def read_handler_types(file: VideoFile) -> dict[int, bytes]:
    """Return track id -> handler type (`vide`, `pict`, `auxv` ...); empty if the file has no `moov` box."""
    with file.open("rb") as stream:
        size = file.stat().st_size
        moov = next((box for box in read_top_boxes(stream, size)[0] if box.kind == b"moov"), None)
        if moov is None:
            return {}
        stream.seek(moov.start)
        data = stream.read(min(moov.stop - moov.start, MAX_INDEX_BYTES))
    handlers = {}
    for kind, track in child_boxes(data):
        if kind == b"trak":
            header = find_box(track, b"tkhd")
            at = 20 if header[:1] == b"\x01" else 12  # the track id follows two times, of 64 bits in version 1
            handlers[int.from_bytes(header[at : at + 4], "big")] = find_box(track, b"mdia", b"hdlr")[8:12]
    return handlers


def primary_item_type(meta: bytes) -> bytes:
    """Return the type (`av01`, `hvc1`, `grid` ...) of the primary item of a HEIF `meta` payload; empty if not found."""
    boxes = meta[4:]  # after version and flags
    pitm, iinf = find_box(boxes, b"pitm"), find_box(boxes, b"iinf")
    primary_id = int.from_bytes(pitm[4:6] if pitm[:1] == b"\0" else pitm[4:8], "big")
    for kind, entry in child_boxes(iinf[6:] if iinf[:1] == b"\0" else iinf[8:]):
        id_size = 4 if entry[:1] == b"\3" else 2  # bytes
        if kind == b"infe" and int.from_bytes(entry[4 : 4 + id_size], "big") == primary_id:
            return entry[6 + id_size : 10 + id_size]
    return b""


def _parse_header(header: bytes, position: int, end: int) -> Box | None:
    """Parse the header of the box at `position`; None if it is invalid. A size of 0 means: up to `end`."""
    size, kind, header_size = int.from_bytes(header[:4], "big"), header[4:8], 8
    if size == 1:
        size, header_size = int.from_bytes(header[8:16], "big"), 16
    elif size == 0:
        size = end - position
    if size < header_size or not _KIND.fullmatch(kind):
        return None
    return Box(kind, position + header_size, position + size)
