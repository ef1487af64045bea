"""Read metadata of Matroska and WebM files that FFmpeg does not report (RFC 9559).

This is the flag `FlagEnabled` of the tracks (section 5.1.4) and the end of the segment.
"""

from collections.abc import Iterator

from serve.video.video_file import VideoFile

_EBML, _SEGMENT, _TRACKS, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0x1F43B675
_TRACK_ENTRY, _TRACK_TYPE, _FLAG_ENABLED = 0xAE, 0x83, 0xB9
_VIDEO = 1
_MAX_TRACKS_BYTES = 2**20
_MAX_ELEMENTS = 1000  # maximum number of elements read in search of `Tracks`
_HEADER_BYTES = 12  # maximum length of an element header: an id of up to 4 and a size of up to 8 bytes


def read_enabled_flags(file: VideoFile) -> list[bool]:
    """Return `FlagEnabled` of each video track, in file order; empty if there are no track entries."""
    entries = [dict(_elements(entry)) for kind, entry in _elements(_read_tracks(file)) if kind == _TRACK_ENTRY]
    videos = [entry for entry in entries if int.from_bytes(entry.get(_TRACK_TYPE, b""), "big") == _VIDEO]
    return [int.from_bytes(entry.get(_FLAG_ENABLED, b"\1"), "big") != 0 for entry in videos]


def read_segment_end(file: VideoFile) -> int | None:
    """Return the file position where the first segment ends, possibly beyond the file; None if its size is unknown."""
    with file.open("rb") as stream:
        _, size, header_length = _parse_header(stream.read(_HEADER_BYTES))
        if not header_length or size is None or size > file.stat().st_size:
            return None
        segment_start = header_length + size
        stream.seek(segment_start)
        kind, segment_size, header_length = _parse_header(stream.read(_HEADER_BYTES))
    if kind != _SEGMENT or segment_size is None:
        return None
    return segment_start + header_length + segment_size


def _read_tracks(file: VideoFile) -> bytes:
    """Return the content of the element `Tracks`; empty if it does not precede the first cluster."""
    with file.open("rb") as stream:
        position, end = 0, file.stat().st_size
        for _ in range(_MAX_ELEMENTS):
            if position >= end:  # a declared size may exceed the largest position that can be sought
                break
            stream.seek(position)
            kind, size, length = _parse_header(stream.read(_HEADER_BYTES))
            if kind == _TRACKS:
                stream.seek(position + length)
                return stream.read(min(size or 0, _MAX_TRACKS_BYTES))
            if kind == _SEGMENT:
                size = 0  # continue with the elements inside the segment
            if length == 0 or size is None or kind == _CLUSTER:
                break
            position += length + size
    return b""


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (id, content) of consecutive elements, up to the first invalid one."""
    position = 0
    while position < len(data):
        kind, size, length = _parse_header(data[position : position + _HEADER_BYTES])
        if length == 0 or size is None:
            return
        yield kind, data[position + length : position + length + size]
        position += length + size


def _parse_header(data: bytes) -> tuple[int, int | None, int]:
    """Return (id, content size or None if unknown, header length) of an element; the length is 0 if it is invalid."""
    id_length = _vint_length(data[:1], max_length=4)
    size_length = _vint_length(data[id_length : id_length + 1], max_length=8)
    if not id_length or not size_length or len(data) < id_length + size_length:
        return 0, None, 0
    kind = int.from_bytes(data[:id_length], "big")
    value_bits = 7 * size_length
    size = int.from_bytes(data[id_length : id_length + size_length], "big") & ((1 << value_bits) - 1)
    return kind, None if size == (1 << value_bits) - 1 else size, id_length + size_length


def _vint_length(first: bytes, *, max_length: int) -> int:
    """Return the length in bytes of a variable-size integer, from its first byte; 0 if it is invalid."""
    length = 9 - first[0].bit_length() if first else 0
    return length if length <= max_length else 0
