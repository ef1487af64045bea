"""Replace the edit list and the enabled flag of tracks in a written MP4 or MOV file whose `moov` box comes last."""

import struct
from collections.abc import Iterator, Sequence

Edit = tuple[float, float] | None  # start and end in shares of the media's duration; None: nothing for one second


def patched(data: bytes, *, edits: Sequence[Edit], edited_track: int, disabled_track: int | None) -> bytes:
    """Return the file with other edits for one track, and one track disabled. Without edits, those of the file stay.

    Raises:
        ValueError: the file has no `moov` box at its end.
    """
    boxes = list(_boxes(data))
    if not boxes or boxes[-1][0] != b"moov":
        raise ValueError("moov is not the last box")
    start = len(data) - len(boxes[-1][1]) - 8
    children = list(_boxes(boxes[-1][1]))
    movie_scale = _scale(_child(children, b"mvhd"))
    found = []
    number = -1
    for kind, payload in children:
        if kind == b"trak":
            number += 1
            if number == edited_track and edits:
                payload = _edited(payload, edits, movie_scale)
            if disabled_track is not None:
                payload = _enabled(payload, is_enabled=number != disabled_track)
        found.append(_box(kind, payload))
    return data[:start] + _box(b"moov", b"".join(found))


def _edited(track: bytes, edits: Sequence[Edit], movie_scale: int) -> bytes:
    children = list(_boxes(track))
    header = _child(list(_boxes(_child(children, b"mdia"))), b"mdhd")
    scale, duration = _scale(header), _duration(header)
    begin = _first_media_time(children)
    entries = b""
    for edit in edits:
        if edit is None:
            entries += struct.pack(">IiI", movie_scale, -1, 1 << 16)
            continue
        shown = round((edit[1] - edit[0]) * duration * movie_scale / scale)
        entries += struct.pack(">IiI", shown, begin + round(edit[0] * duration), 1 << 16)
    box = _box(b"edts", _box(b"elst", struct.pack(">II", 0, len(edits)) + entries))
    kept = [(kind, payload) for kind, payload in children if kind != b"edts"]
    return b"".join(_box(kind, payload) + (box if kind == b"tkhd" else b"") for kind, payload in kept)


def _first_media_time(children: list[tuple[bytes, bytes]]) -> int:
    """Return where the muxer's edit list begins: decoding runs ahead of the pictures by so much."""
    for kind, payload in children:
        if kind == b"edts":
            entries = _child(list(_boxes(payload)), b"elst")
            size = 20 if entries[0] else 12
            times = [
                struct.unpack_from(">q" if entries[0] else ">i", entries, at + (8 if entries[0] else 4))[0]
                for at in range(8, len(entries), size)
            ]
            return max([*times, 0])
    return 0


def _enabled(track: bytes, *, is_enabled: bool) -> bytes:
    found = []
    for kind, payload in _boxes(track):
        if kind == b"tkhd":
            payload = payload[:3] + bytes([(payload[3] & ~1) | is_enabled]) + payload[4:]
        found.append(_box(kind, payload))
    return b"".join(found)


def _scale(header: bytes) -> int:
    return int(struct.unpack_from(">I", header, 20 if header[0] else 12)[0])


def _duration(header: bytes) -> int:
    return int(struct.unpack_from(">Q" if header[0] else ">I", header, 24 if header[0] else 16)[0])


def _child(children: list[tuple[bytes, bytes]], kind: bytes) -> bytes:
    return next(payload for found, payload in children if found == kind)


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) + 8) + kind + payload


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        elif size == 0:
            size = len(data) - at
        yield kind, data[at + head : at + size]
        at += max(size, head)
