"""From a decoded frame to an upright RGB picture: size limits, colour, rotation.

Colours are those of `ffmpeg -pix_fmt rgb24`: the same scale filter makes them, so chroma positions, ranges, matrices
and interlaced chroma are treated as there. Pixels stay as stored: no anamorphic stretching, no deinterlacing.
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
    """Turns the frames of one video into pictures; follows changes of size and format."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._key: tuple[object, ...] = ()

    def picture(self, frame: av.VideoFrame) -> UInt8Array:
        """The frame as RGB [H, W, 3], turned as its display matrix asks.

        Raises:
            PictureTooLarge: the frame passes a limit, also when only a later frame of the video does.
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
    """a, b, c, d of the frame's display matrix, None without one.

    The matrix comes from the container, from the bitstream (SEI) or, in still pictures, from the EXIF orientation.
    """
    _allow_unknown_side_data()
    for data in frame.side_data:
        if data.type is Type.DISPLAYMATRIX:
            values = np.frombuffer(bytes(data), dtype=np.int32)
            return int(values[0]), int(values[1]), int(values[3]), int(values[4])
    return None


def _allow_unknown_side_data() -> None:
    """Let PyAV list side data of types that its enumeration lacks, e.g. EXIF (PyAV 18.1 with FFmpeg 8.1).

    Without this, one such entry makes `frame.side_data` raise ValueError, and the display matrix is out of reach.
    """
    setattr(Type, "_missing_", _unknown_type)  # noqa: B010  # the hook of enumerations for values they lack


def _unknown_type(value: object) -> Any:
    member: Any = object.__new__(Type)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


def is_quarter_turn(matrix: Matrix | None) -> bool:
    """Whether the matrix turns by a multiple of 90 degrees and does not mirror or scale; true without a matrix."""
    if matrix is None:
        return True
    a, b, c, d = matrix
    return (a == d and b == c == 0 and a != 0) or (a == d == 0 and b == -c and b != 0)


def upright(picture: UInt8Array, matrix: Matrix | None) -> UInt8Array:
    """Turn and mirror by multiples of 90 degrees. [H, W, 3] -> [H', W', 3]

    Other angles go to the nearest multiple, because that is all that players honour; a scale has no effect, and a
    matrix of zeros leaves the picture as it is.
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
        PictureTooLarge: width times height, or the ratio of the sides, passes its limit.
    """
    if width * height > settings.max_picture_pixels:
        raise PictureTooLarge(
            f"frames of {width}x{height} pixels; {settings.max_picture_pixels} pixels are allowed",
            width=width, height=height, limit_pixels=settings.max_picture_pixels,
        )  # fmt: skip
    if max(width, height) > settings.max_aspect_ratio * max(1, min(width, height)):
        raise PictureTooLarge(
            f"frames of {width}x{height} pixels; one side may be {settings.max_aspect_ratio:g} times the other",
            width=width, height=height, limit_ratio=settings.max_aspect_ratio,
        )  # fmt: skip
