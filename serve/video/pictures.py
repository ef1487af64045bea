"""Convert decoded frames to upright RGB pictures: size limits, colour, rotation.

Colours are the same as with `ffmpeg -pix_fmt rgb24`, because the same scale filter handles chroma positions, ranges,
matrices and interlaced chroma. There is no anamorphic stretching and no deinterlacing.
"""

from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
from av.sidedata.sidedata import Type

from serve.arrays import UInt8Array
from serve.errors import PictureTooLarge
from serve.video.limits import DecodeSettings

Matrix = tuple[int, int, int, int]  # a, b, c, d: a point (x, y) is shown at (a x + c y, b x + d y)


class PictureConverter:
    """Converts the frames of one video; size and format may change between frames."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._key: tuple[object, ...] = ()

    def picture(self, frame: av.VideoFrame) -> UInt8Array:
        """Convert a frame to RGB [H, W, 3] and apply its display matrix.

        Raises:
            PictureTooLarge: this frame exceeds a limit.
        """
        check_picture(frame.width, frame.height, self._settings)
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if key != self._key:
            self._build(frame)
            self._key = key
        self._source.push(frame)
        return upright(self._sink.pull().to_ndarray(), display_matrix(frame))

    def _build(self, frame: av.VideoFrame) -> None:
        self._graph = av.filter.Graph()
        self._source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        )
        scale = self._graph.add("scale", "flags=bicubic")
        rgb = self._graph.add("format", "rgb24")
        self._sink = self._graph.add("buffersink")
        self._source.link_to(scale)
        scale.link_to(rgb)
        rgb.link_to(self._sink)
        self._graph.configure()


def display_matrix(frame: av.VideoFrame) -> Matrix | None:
    """Return a, b, c, d of the frame's display matrix; None if it has none.

    The matrix comes from the container, from the bitstream (SEI) or, in still pictures, from the EXIF orientation.
    """
    _allow_unknown_side_data()
    for data in frame.side_data:
        if data.type is Type.DISPLAYMATRIX:
            values = np.frombuffer(bytes(data), dtype=np.int32)
            return int(values[0]), int(values[1]), int(values[3]), int(values[4])
    return None


def _allow_unknown_side_data() -> None:
    """Make PyAV accept side data of types that its enumeration lacks, e.g. EXIF (PyAV 18.1 with FFmpeg 8.1).

    Without this, one such entry makes `frame.side_data` raise ValueError, and the display matrix cannot be read.
    """
    setattr(Type, "_missing_", _unknown_type)  # noqa: B010  # hook of enumerations for missing values


def _unknown_type(value: object) -> Any:
    member: Any = object.__new__(Type)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


def is_quarter_turn(matrix: Matrix | None) -> bool:
    """Return whether the matrix only rotates by a multiple of 90 degrees; True without a matrix."""
    if matrix is None:
        return True
    a, b, c, d = matrix
    return (a == d and b == c == 0 and a != 0) or (a == d == 0 and b == -c and b != 0)


def upright(picture: UInt8Array, matrix: Matrix | None) -> UInt8Array:
    """Rotate by multiples of 90 degrees and mirror. [H, W, 3] -> [H', W', 3]

    Other angles are rounded to the nearest multiple, as in players; scaling is ignored, and a matrix of zeros has no
    effect.
    """
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        turned = picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    else:
        turned = picture.swapaxes(0, 1)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    return np.ascontiguousarray(turned)


def check_picture(width: int, height: int, settings: DecodeSettings) -> None:
    """Refuse pictures that are too large or too thin.

    Raises:
        PictureTooLarge: width times height, or the ratio of the sides, exceeds its limit.
    """
    if width * height > settings.max_picture_pixels:
        raise PictureTooLarge(
            f"the frames have {width}x{height} pixels; at most {settings.max_picture_pixels} pixels are allowed",
            width=width, height=height, limit_pixels=settings.max_picture_pixels,
        )  # fmt: skip
    if max(width, height) > settings.max_aspect_ratio * max(1, min(width, height)):
        raise PictureTooLarge(
            f"the frames have {width}x{height} pixels; one side may be {settings.max_aspect_ratio:g} times the other",
            width=width, height=height, limit_ratio=settings.max_aspect_ratio,
        )  # fmt: skip
