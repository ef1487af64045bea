"""Frames of an animated PNG by the letter of the specification (PNG, third edition, section 11.3.6), for comparison.

Each frame's image data is decoded as a still PNG; only the composition is done here.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from serve.arrays import Float64Array, UInt8Array

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BACKGROUND, _PREVIOUS = 1, 2
_OVER = 1


def apng_frames(path: Path) -> list[UInt8Array]:
    """All frames of the animation, RGB [H, W, 3], transparency dropped."""
    chunks = list(_chunks(path.read_bytes()))
    header = next(data for kind, data in chunks if kind == b"IHDR")
    width, height = struct.unpack(">II", header[:8])
    shared = [(kind, data) for kind, data in chunks if kind in (b"PLTE", b"tRNS")]
    canvas = np.zeros((height, width, 4))
    shown: list[UInt8Array] = []
    for index, (control, data) in enumerate(_stored(chunks)):
        w, h, x, y, _, _, dispose, blend = struct.unpack(">4x4I2H2B", control)
        pixels = _decode(header, shared, data, w, h)
        before = canvas.copy()
        area = canvas[y : y + h, x : x + w]
        area[:] = _blended(area, pixels) if blend == _OVER else pixels
        shown.append(np.rint(canvas[..., :3]).astype(np.uint8))
        if dispose == _BACKGROUND or (dispose == _PREVIOUS and index == 0):
            area[:] = 0
        elif dispose == _PREVIOUS:
            canvas = before
    return shown


def _stored(chunks: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """(frame control, compressed data) of each frame; a default picture without control is left out."""
    control, data = b"", b""
    for kind, payload in [*chunks, (b"fcTL", b"")]:
        if kind == b"fcTL":
            if control:
                yield control, data
            control, data = payload, b""
        elif kind == b"IDAT" and control:
            data += payload
        elif kind == b"fdAT":
            data += payload[4:]


def _decode(header: bytes, shared: list[tuple[bytes, bytes]], data: bytes, width: int, height: int) -> Float64Array:
    still = [(b"IHDR", struct.pack(">II", width, height) + header[8:]), *shared, (b"IDAT", data), (b"IEND", b"")]
    encoded = _SIGNATURE + b"".join(
        struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
        for kind, payload in still
    )
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGBA"), dtype=np.float64)


def _blended(under: Float64Array, over: Float64Array) -> Float64Array:
    """`over` on `under`, both RGBA 0..255 with straight alpha."""
    a, b = over[..., 3:] / 255, under[..., 3:] / 255
    alpha = a + b * (1 - a)
    colour = over[..., :3] * a + under[..., :3] * b * (1 - a)
    return np.concatenate([np.divide(colour, alpha, out=np.zeros_like(colour), where=alpha > 0), alpha * 255], axis=2)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_SIGNATURE)
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length
