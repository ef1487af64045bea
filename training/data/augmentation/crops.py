"""Crop boxes for training and multi-crop evaluation; one box applies to all frames of a clip."""

from dataclasses import dataclass

from serve.arrays import UInt8Array
from training.data.augmentation.rngs import Rngs

SCALES = (1.0, 0.875, 0.75, 0.66)
SNAP = 3  # pixels: a side this close to the target size is set to it
CORNERS_AND_CENTRE = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))  # (x, y) in quarters of the margin; X-CLIP
THIRTEEN = (  # ActionCLIP: also middles of edges, and quarters
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
        """Crop a frame [H, W, 3] to [height, width, 3]."""
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
    """Sample a box from several sizes and positions; advances `rngs.python` twice.

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
    """Return boxes of side `size`: upper left, upper right, lower left, lower right, centre.

    Positions are those of the unused multi-crop tests of X-CLIP and ActionCLIP: multiples of a quarter of the margin,
    rounded down, so the far boxes may not reach the edge.
    """
    across, down = (width - size) // 4, (height - size) // 4
    return [CropBox(left=x * across, top=y * down, width=size, height=size) for x, y in CORNERS_AND_CENTRE]


def five_crops(frame: UInt8Array, size: int) -> list[UInt8Array]:
    """Return five square crops of a frame [H, W, 3]."""
    return [box.cut(frame) for box in five_boxes(frame.shape[0], frame.shape[1], size)]


def ten_crops(frame: UInt8Array, size: int) -> list[UInt8Array]:
    """Return five square crops, then the same mirrored."""
    squares = five_crops(frame, size)
    return squares + [square[:, ::-1] for square in squares]
