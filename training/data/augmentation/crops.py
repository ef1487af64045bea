"""Crop boxes for training and multi-crop evaluation; one box applies to all frames of a clip."""

from dataclasses import dataclass

from serve.arrays import UInt8Array
from training.data.augmentation.rngs import Rngs

SCALES = (1.0, 0.875, 0.75, 0.66)  # side of the box relative to the shorter side of the frame
SNAP_DISTANCE = 3  # pixels; a side closer than this to the target size is set to the target size
CORNERS_AND_CENTRE = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))  # (x, y) in quarters of the margin; used by X-CLIP
THIRTEEN_OFFSETS = (  # used by ActionCLIP: in addition the middles of the edges and the centres of the quadrants
    *CORNERS_AND_CENTRE, (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CropBox:
    """A rectangle in a frame, in pixels."""

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

    Width and height are the shorter side of the frame times one of `scales`; the two scales are at most `max_distort`
    positions apart in `scales`.

    Source: multi-scale cropping after TSN (arXiv:1608.00859).
    """
    sides = [int(min(height, width) * scale) for scale in scales]
    box_sizes = [
        (box_width, box_height)
        for i, box_height in enumerate(sides)
        for j, box_width in enumerate(sides)
        if abs(i - j) <= max_distort
    ]
    box_size = rngs.python.choice(box_sizes)
    box_width, box_height = (size if abs(side - size) < SNAP_DISTANCE else side for side in box_size)
    step_x, step_y = (width - box_width) // 4, (height - box_height) // 4
    left, top = rngs.python.choice([(x * step_x, y * step_y) for x, y in offsets])
    return CropBox(left=left, top=top, width=box_width, height=box_height)


def five_boxes(height: int, width: int, size: int) -> list[CropBox]:
    """Return boxes of side `size`: upper left, upper right, lower left, lower right, centre.

    The code of X-CLIP and ActionCLIP defines these positions for multi-crop evaluation, which neither of them uses.
    They are multiples of a quarter of the margin, rounded down, so the right and lower boxes may not reach the edge.
    """
    step_x, step_y = (width - size) // 4, (height - size) // 4
    return [CropBox(left=x * step_x, top=y * step_y, width=size, height=size) for x, y in CORNERS_AND_CENTRE]


def five_crops(frame: UInt8Array, size: int) -> list[UInt8Array]:
    """Return five square crops of a frame [H, W, 3]."""
    return [box.cut(frame) for box in five_boxes(frame.shape[0], frame.shape[1], size)]


def ten_crops(frame: UInt8Array, size: int) -> list[UInt8Array]:
    """Return five square crops of a frame [H, W, 3], followed by their mirror images."""
    crops = five_crops(frame, size)
    return crops + [crop[:, ::-1] for crop in crops]
