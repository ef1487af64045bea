"""Boxes that training and many-crop evaluation cut out of frames; one draw serves all frames of a clip."""

from dataclasses import dataclass

from serve.arrays import UInt8Array
from training.data.augmentation.rngs import Rngs

SCALES = (1.0, 0.875, 0.75, 0.66)
SNAP = 3  # a side closer than this to the wanted size becomes it, pixels
CORNERS_AND_CENTRE = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))  # (x, y) in quarters of the free room; X-CLIP
THIRTEEN = (  # ActionCLIP's: edges' middles and the quarters too
    *CORNERS_AND_CENTRE, (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CropBox:
    """A rectangle of a frame in pixels; half open."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, frame: UInt8Array) -> UInt8Array:
        """The part of a frame [H, W, 3] inside, [height, width, 3]."""
        return frame[self.top : self.top + self.height, self.left : self.left + self.width]


def multiscale_box(
    height: int,
    width: int,
    size: int,
    *,
    rngs: Rngs,
    offsets: tuple[tuple[int, int], ...],
    scales: tuple[float, ...] = SCALES,
    max_distort: int = 1,
) -> CropBox:
    """A random box of one of a few sizes at one of a few places; advances `rngs.python` twice.

    Sides are `scales` of the shorter side; width and height may differ by `max_distort` steps of scale.

    Source: multi-scale cropping after TSN (arXiv:1608.00859).
    """
    sides = [int(min(height, width) * scale) for scale in scales]
    pairs = [
        (across, down) for i, down in enumerate(sides) for j, across in enumerate(sides) if abs(i - j) <= max_distort
    ]
    chosen = rngs.python.choice(pairs)
    across, down = (size if abs(side - size) < SNAP else side for side in chosen)
    x, y = rngs.python.choice([(x * ((width - across) // 4), y * ((height - down) // 4)) for x, y in offsets])
    return CropBox(left=x, top=y, width=across, height=down)


def five_boxes(height: int, width: int, size: int) -> list[CropBox]:
    """Upper left, upper right, lower left, lower right, centre, each `size` pixels square.

    The places are those of X-CLIP's and ActionCLIP's unused many-crop tests: quarters of the free room, so with room
    that is no multiple of 4 the far boxes stop short of the edge.
    """
    across, down = (width - size) // 4, (height - size) // 4
    return [CropBox(left=x * across, top=y * down, width=size, height=size) for x, y in CORNERS_AND_CENTRE]


def five_crops(frame: UInt8Array, size: int) -> list[UInt8Array]:
    """Five squares of a frame [H, W, 3]."""
    return [box.cut(frame) for box in five_boxes(frame.shape[0], frame.shape[1], size)]


def ten_crops(frame: UInt8Array, size: int) -> list[UInt8Array]:
    """Five squares, then the same mirrored."""
    squares = five_crops(frame, size)
    return squares + [square[:, ::-1] for square in squares]
