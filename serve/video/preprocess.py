"""Resize and crop decoded frames by the rules of the contract; the graph normalises them.

Pillow's filters are antialiased, OpenCV's bilinear filter is not. A model depends on the filter it was trained with, so
the contract names the filter, the rounding of the longer side and the rounding of the offset of the centre crop.
"""

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from serve.arrays import Float32Array, UInt8Array
from serve.contract import PreprocessContract


def _resize_with_pillow(frame: UInt8Array, width: int, height: int, kernel: Image.Resampling) -> UInt8Array:
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), kernel))


def pillow_bicubic(frame: UInt8Array, width: int, height: int) -> UInt8Array:
    """Resize a frame [H, W, 3] to [height, width, 3] with antialiasing; the cubic coefficient is a = -0.5.

    >>> pillow_bicubic(np.full((8, 6, 3), 7, np.uint8), 3, 4).shape
    (4, 3, 3)
    """
    return _resize_with_pillow(frame, width, height, Image.Resampling.BICUBIC)


def pillow_bilinear(frame: UInt8Array, width: int, height: int) -> UInt8Array:
    """Resize a frame [H, W, 3] to [height, width, 3] with antialiasing.

    >>> pillow_bilinear(np.full((8, 6, 3), 7, np.uint8), 3, 4).shape
    (4, 3, 3)
    """
    return _resize_with_pillow(frame, width, height, Image.Resampling.BILINEAR)


def opencv_bilinear(frame: UInt8Array, width: int, height: int) -> UInt8Array:
    """Resize a frame [H, W, 3] to [height, width, 3] without antialiasing.

    >>> opencv_bilinear(np.full((8, 6, 3), 7, np.uint8), 3, 4).shape
    (4, 3, 3)
    """
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


INTERPOLATIONS: dict[str, Callable[[UInt8Array, int, int], UInt8Array]] = {
    "pillow_bicubic": pillow_bicubic,
    "pillow_bilinear": pillow_bilinear,
    "opencv_bilinear": opencv_bilinear,
}
SIZE_ROUNDINGS: dict[str, Callable[[int, int, int], int]] = {  # (side, shorter side, new shorter side) -> new side
    "truncate": lambda side, short, target: int(target * side / short),
    "half_up": lambda side, short, target: int(side * (target / short) + 0.5),
}
CROP_ROUNDINGS: dict[str, Callable[[int], int]] = {  # margin -> offset of the centre crop
    "half_even": lambda margin: round(margin / 2),
    "floor": lambda margin: margin // 2,
}


def scaled_size(height: int, width: int, target: int, *, rounding: str) -> tuple[int, int]:
    """Return the (height, width) of a resized frame: the shorter side is `target`, the aspect ratio is preserved.

    >>> scaled_size(240, 426, 224, rounding="truncate")
    (224, 397)
    >>> scaled_size(240, 426, 224, rounding="half_up")
    (224, 398)
    """
    short = min(height, width)
    longer = SIZE_ROUNDINGS[rounding](max(height, width), short, target)
    return (target, max(longer, target)) if height <= width else (max(longer, target), target)


def crop_frame(frame: UInt8Array, rule: PreprocessContract, *, num_crops: int) -> UInt8Array:
    """Resize a frame [H, W, 3] and return its crops [num_crops, 3, S, S].

    One crop follows the contract: resize, then crop the centre. Three crops follow X-CLIP's evaluation for every model:
    the shorter side is resized to S, and squares are cropped at the start, the end and the middle of the longer side.
    If the margin is odd, the second square ends one pixel before the edge.

    >>> rule = PreprocessContract(
    ...     image_size=2, resize="shortest_side", short_side=2, interpolation="opencv_bilinear",
    ...     size_rounding="half_up", crop_rounding="floor", mean=(0, 0, 0), std=(1, 1, 1),
    ... )
    >>> frame = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
    >>> crop_frame(frame, rule, num_crops=3)[:, 0, 0].tolist()  # red of the upper row: first, last, middle
    [[0, 3], [12, 15], [6, 9]]
    """
    size = rule.image_size
    resize = INTERPOLATIONS[rule.interpolation]
    if num_crops == 1 and rule.resize == "squash":
        return _stack_crops([resize(frame, size, size)])
    target = rule.short_side if num_crops == 1 else size
    height, width = scaled_size(frame.shape[0], frame.shape[1], target, rounding=rule.size_rounding)
    resized = resize(frame, width, height)
    if num_crops == 1:
        offset_of = CROP_ROUNDINGS[rule.crop_rounding]
        corners = [(offset_of(height - size), offset_of(width - size))]
    else:
        step = (max(height, width) - size) // 2
        corners = [(0, offset) if width >= height else (offset, 0) for offset in (0, 2 * step, step)]
    return _stack_crops([resized[top : top + size, left : left + size] for top, left in corners])


def join_views(crops: UInt8Array) -> UInt8Array:
    """Arrange the crops of all frames [num_clips, T, num_crops, 3, S, S] as views [V, T, 3, S, S].

    Views are ordered by crop, then by clip.

    >>> join_views(np.zeros((4, 8, 3, 3, 32, 32), np.uint8)).shape
    (12, 8, 3, 32, 32)
    """
    ordered = np.moveaxis(crops, 2, 0)  # [num_crops, num_clips, T, 3, S, S]
    return np.ascontiguousarray(ordered).reshape(-1, *ordered.shape[2:])


def normalise(views: UInt8Array, rule: PreprocessContract) -> Float32Array:
    """Normalise views [..., 3, S, S] with values 0 to 255, as the graph does; return float32.

    >>> rule = PreprocessContract(
    ...     image_size=1, resize="shortest_side", short_side=1, interpolation="opencv_bilinear",
    ...     size_rounding="half_up", crop_rounding="floor", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    ... )
    >>> normalise(np.array([[[255]], [[0]], [[255]]], np.uint8), rule).ravel().tolist()
    [1.0, -1.0, 1.0]
    """
    mean = np.array(rule.mean, np.float32).reshape(3, 1, 1)
    std = np.array(rule.std, np.float32).reshape(3, 1, 1)
    normalised: Float32Array = (views.astype(np.float32) / np.float32(255) - mean) / std
    return normalised


def _stack_crops(crops: list[UInt8Array]) -> UInt8Array:
    return np.stack([crop.transpose(2, 0, 1) for crop in crops])  # [num_crops, 3, S, S]
