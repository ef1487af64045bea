"""Convert decoded frames to upright RGB arrays: check their size, convert colours, rotate and mirror.

Colours are the same as with `ffmpeg -pix_fmt rgb24`, because the same scale filter handles chroma positions, ranges,
matrices and interlaced chroma. Non-square pixels are not stretched, and frames are not deinterlaced.
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

DisplayMatrix = tuple[int, int, int, int]  # a, b, c, d: a point (x, y) is displayed at (a x + c y, b x + d y)


class FrameConverter:
    """Converts the frames of one video to RGB; their size and format may change."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._graph_key: tuple[object, ...] = ()  # properties of the frames that the graph was built for

    def to_rgb(self, frame: av.VideoFrame) -> UInt8Array:
        """Convert a frame to RGB [H, W, 3] and apply its display matrix.

        Raises:
            PictureTooLarge: the frame exceeds a limit.
        """
        check_picture(frame.width, frame.height, self._settings)
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if key != self._graph_key:
            self._build_graph(frame)
            self._graph_key = key
        self._source.push(frame)
        return apply_display_matrix(self._sink.pull().to_ndarray(), read_display_matrix(frame))

    def _build_graph(self, frame: av.VideoFrame) -> None:
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


def read_display_matrix(frame: av.VideoFrame) -> DisplayMatrix | None:
    """Return a, b, c, d of the frame's display matrix; None if it has none.

    The matrix comes from the container, from the bitstream (SEI) or, for still images, from the EXIF orientation.
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


def is_quarter_turn(matrix: DisplayMatrix | None) -> bool:
    """Return whether the matrix only rotates by a multiple of 90 degrees; True without a matrix."""
    if matrix is None:
        return True
    a, b, c, d = matrix
    return (a == d and b == c == 0 and a != 0) or (a == d == 0 and b == -c and b != 0)


def apply_display_matrix(picture: UInt8Array, matrix: DisplayMatrix | None) -> UInt8Array:
    """Rotate a picture [H, W, 3] by a multiple of 90 degrees and mirror it, as the matrix says.

    Other angles are rounded to the nearest multiple, as in players. Scaling is ignored, and a matrix of zeros has no
    effect.
    """
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        rotated = picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    else:
        rotated = picture.swapaxes(0, 1)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    return np.ascontiguousarray(rotated)


def check_picture(width: int, height: int, settings: DecodeSettings) -> None:
    """Check the size of a picture against the limits.

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
            f"the frames have {width}x{height} pixels; "
            f"the longer side may be at most {settings.max_aspect_ratio:g} times the shorter side",
            width=width, height=height, limit_ratio=settings.max_aspect_ratio,
        )  # fmt: skip
