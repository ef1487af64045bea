"""Distinguish a JPEG picture from a Motion JPEG stream: both are files of consecutive JPEG pictures.

Cameras append thumbnails, gain maps, other views or a short video to a picture; viewers show only the first picture.
"""

from typing import BinaryIO

_SEARCH_BYTES = 16 * 2**20  # searched for the end of the first picture
_MAX_SEGMENTS = 1000
_SOI, _EOI, _SOS, _APP2 = 0xD8, 0xD9, 0xDA, 0xE2
_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_MULTI_PICTURE = b"MPF\0"  # CIPA DC-007: the header of the first picture lists the others that belong to it


def is_single(stream: BinaryIO) -> bool:
    """Return whether a file that starts with a JPEG is a single picture.

    It is a stream if a picture of the same size follows immediately and the first does not list it.
    """
    first = _headers(stream, 0)
    if first is None or first.is_multi_picture:
        return True
    stream.seek(first.stop)
    end = stream.read(_SEARCH_BYTES).find(bytes((0xFF, _EOI)))
    if end < 0:
        return True
    second = _headers(stream, first.stop + end + 2)
    return second is None or second.size != first.size


class _Headers:
    """The segments before the first scan."""

    def __init__(self) -> None:
        self.size = b""  # height and width as stored
        self.is_multi_picture = False
        self.stop = 0


def _headers(stream: BinaryIO, start: int) -> _Headers | None:
    stream.seek(start)
    if stream.read(2) != bytes((0xFF, _SOI)):
        return None
    found, position = _Headers(), start + 2
    for _ in range(_MAX_SEGMENTS):
        stream.seek(position)
        header = stream.read(12)
        if len(header) < 12 or header[0] != 0xFF:
            return None
        kind, length = header[1], int.from_bytes(header[2:4], "big")
        if kind in _FRAME_HEADERS:
            found.size = header[5:9]
        if kind == _APP2 and header[4:8] == _MULTI_PICTURE:
            found.is_multi_picture = True
        position += 2 + length
        if kind == _SOS:
            found.stop = position
            return found
    return None
