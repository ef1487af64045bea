"""Facts of Matroska and WebM files that FFmpeg does not report (RFC 9559).

Which tracks are enabled (`FlagEnabled`, section 5.1.4), and where the segment ends.
"""

from collections.abc import Iterator
from pathlib import Path

_EBML, _SEGMENT, _TRACKS, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0x1F43B675
_TRACK_ENTRY, _TRACK_TYPE, _FLAG_ENABLED = 0xAE, 0x83, 0xB9
_VIDEO = 1
_MAX_TRACKS_BYTES = 2**20
_MAX_ELEMENTS = 1000  # before the tracks: they come within the first few
_HEADER_BYTES = 12  # of an element: an id of up to 4 and a size of up to 8 bytes


def enabled_video_tracks(path: Path) -> list[bool]:
    """Return `FlagEnabled` of the video tracks in the order of the file; empty if there are no track entries."""
    entries = [dict(_elements(entry)) for kind, entry in _elements(_tracks(path)) if kind == _TRACK_ENTRY]
    videos = [entry for entry in entries if int.from_bytes(entry.get(_TRACK_TYPE, b""), "big") == _VIDEO]
    return [int.from_bytes(entry.get(_FLAG_ENABLED, b"\1"), "big") != 0 for entry in videos]


def segment_end(path: Path) -> int | None:
    """Return where the first segment ends, possibly beyond the file; None if it does not say."""
    with path.open("rb") as stream:
        _, size, length = _header(stream.read(_HEADER_BYTES))
        if not length or size is None or size > path.stat().st_size:
            return None
        stream.seek(length + size)
        kind, inner, inner_length = _header(stream.read(_HEADER_BYTES))
    is_known = kind == _SEGMENT and inner is not None
    return length + size + inner_length + (inner or 0) if is_known else None


def _tracks(path: Path) -> bytes:
    """Return the content of the element `Tracks`; empty if it does not precede the first cluster."""
    with path.open("rb") as stream:
        position, end = 0, path.stat().st_size
        for _ in range(_MAX_ELEMENTS):
            if position >= end:  # a size may claim more than any file system can seek to
                break
            stream.seek(position)
            kind, size, length = _header(stream.read(_HEADER_BYTES))
            if kind == _TRACKS:
                stream.seek(position + length)
                return stream.read(min(size or 0, _MAX_TRACKS_BYTES))
            if kind == _SEGMENT:
                size = 0  # enter it
            if length == 0 or size is None or kind == _CLUSTER:
                break
            position += length + size
    return b""


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind, size, length = _header(data[position : position + _HEADER_BYTES])
        if length == 0 or size is None:
            return
        yield kind, data[position + length : position + length + size]
        position += length + size


def _header(data: bytes) -> tuple[int, int | None, int]:
    """Parse an element header: (id, size or None if unknown, length of both in bytes); the length is 0 if invalid."""
    id_length = _length(data[:1], most=4)
    size_length = _length(data[id_length : id_length + 1], most=8)
    if not id_length or not size_length or len(data) < id_length + size_length:
        return 0, None, 0
    kind = int.from_bytes(data[:id_length], "big")
    value_bits = 7 * size_length
    size = int.from_bytes(data[id_length : id_length + size_length], "big") & ((1 << value_bits) - 1)
    return kind, None if size == (1 << value_bits) - 1 else size, id_length + size_length


def _length(first: bytes, *, most: int) -> int:
    """Return the length of a variable-size integer from its first byte; 0 if it is invalid."""
    length = 9 - first[0].bit_length() if first else 0
    return length if length <= most else 0
