"""Distinguish a JPEG image from a Motion JPEG stream: both can be files of several consecutive JPEG images.

Cameras append thumbnails, gain maps, other views or a short video to an image; viewers show only the first image.
"""

from typing import BinaryIO

_SEARCH_BYTES = 16 * 2**20  # maximum length of the search for the end of the first image
_MAX_SEGMENTS = 1000
_SOI, _EOI, _SOS, _APP2 = 0xD8, 0xD9, 0xDA, 0xE2
_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_MULTI_PICTURE = b"MPF\0"  # Multi-Picture Format (CIPA DC-007): the header of the first image lists the others


def is_single_image(stream: BinaryIO) -> bool:
    """Return whether a file that starts with a JPEG is a single image.

    It is a stream if an image of the same size follows immediately and the first image does not list it.
    """
    first = _read_headers(stream, 0)
    if first is None or first.is_multi_picture:
        return True
    stream.seek(first.scan_offset)
    end = stream.read(_SEARCH_BYTES).find(bytes((0xFF, _EOI)))
    if end < 0:
        return True
    second = _read_headers(stream, first.scan_offset + end + 2)
    return second is None or second.size != first.size


class _Headers:
    """Information from the segments before the first scan."""

    def __init__(self) -> None:
        self.size = b""  # encoded height and width
        self.is_multi_picture = False
        self.scan_offset = 0  # file position of the entropy-coded data of the first scan


def _read_headers(stream: BinaryIO, start: int) -> _Headers | None:
    """Read the headers of the image at `start`; None if there is no valid JPEG."""
    stream.seek(start)
    if stream.read(2) != bytes((0xFF, _SOI)):
        return None
    headers, position = _Headers(), start + 2
    for _ in range(_MAX_SEGMENTS):
        stream.seek(position)
        header = stream.read(12)
        if len(header) < 12 or header[0] != 0xFF:
            return None
        kind, length = header[1], int.from_bytes(header[2:4], "big")
        if kind in _FRAME_HEADERS:
            headers.size = header[5:9]
        if kind == _APP2 and header[4:8] == _MULTI_PICTURE:
            headers.is_multi_picture = True
        position += 2 + length
        if kind == _SOS:
            headers.scan_offset = position
            return headers
    return None
