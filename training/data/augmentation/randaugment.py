"""RandAugment (arXiv:1909.13719) as ActionCLIP uses it: N operations sampled with replacement at strength M of 30.

Geometric operations fill with black, use nearest-neighbour interpolation and a random direction. ActionCLIP samples
operations for each frame; `scope="clip"` uses the same ones for all frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from serve.arrays import UInt8Array
from training.data.augmentation.augmentations import Frames, Scope
from training.data.augmentation.rngs import Rngs

STRONGEST = 30  # the scale of M
CUTOUT_COLOUR = (125, 123, 114)

Picture = Image.Image


def _autocontrast(picture: Picture, _: float, __: Rngs) -> Picture:
    return ImageOps.autocontrast(picture)


def _equalize(picture: Picture, _: float, __: Rngs) -> Picture:
    return ImageOps.equalize(picture)


def _invert(picture: Picture, _: float, __: Rngs) -> Picture:
    return ImageOps.invert(picture)


def _rotate(picture: Picture, degrees: float, rngs: Rngs) -> Picture:
    return picture.rotate(_either_way(degrees, rngs))


def _posterize(picture: Picture, bits: float, _: Rngs) -> Picture:
    return ImageOps.posterize(picture, max(1, int(bits)))


def _solarize(picture: Picture, threshold: float, _: Rngs) -> Picture:
    return ImageOps.solarize(picture, threshold)  # type: ignore[arg-type]  # 76.8 and 77 invert the same values


def _solarize_add(picture: Picture, addition: float, _: Rngs) -> Picture:
    brighter = np.clip(np.asarray(picture).astype(np.int64) + addition, 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(brighter), 128)


def _color(picture: Picture, factor: float, _: Rngs) -> Picture:
    return ImageEnhance.Color(picture).enhance(factor)


def _contrast(picture: Picture, factor: float, _: Rngs) -> Picture:
    return ImageEnhance.Contrast(picture).enhance(factor)


def _brightness(picture: Picture, factor: float, _: Rngs) -> Picture:
    return ImageEnhance.Brightness(picture).enhance(factor)


def _sharpness(picture: Picture, factor: float, _: Rngs) -> Picture:
    return ImageEnhance.Sharpness(picture).enhance(factor)


def _shear_x(picture: Picture, slope: float, rngs: Rngs) -> Picture:
    return _affine(picture, (1, _either_way(slope, rngs), 0, 0, 1, 0))


def _shear_y(picture: Picture, slope: float, rngs: Rngs) -> Picture:
    return _affine(picture, (1, 0, 0, _either_way(slope, rngs), 1, 0))


def _translate_x(picture: Picture, pixels: float, rngs: Rngs) -> Picture:
    return _affine(picture, (1, 0, _either_way(pixels, rngs), 0, 1, 0))


def _translate_y(picture: Picture, pixels: float, rngs: Rngs) -> Picture:
    return _affine(picture, (1, 0, 0, 0, 1, _either_way(pixels, rngs)))


def _cutout(picture: Picture, side: float, rngs: Rngs) -> Picture:
    """Fill a square with one colour; its centre is between pixel 1 and the far edge, as in the original."""
    width, height = picture.size
    centre_x, centre_y = rngs.numpy.uniform(width, 1.0), rngs.numpy.uniform(height, 1.0)
    left, top = int(max(0, centre_x - side / 2)), int(max(0, centre_y - side / 2))
    covered = picture.copy()
    box = (left, top, min(width, left + side), min(height, top + side))
    ImageDraw.Draw(covered).rectangle(box, CUTOUT_COLOUR)
    return covered


def _affine(picture: Picture, matrix: tuple[float, ...]) -> Picture:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix)


def _either_way(value: float, rngs: Rngs) -> float:
    return -value if rngs.python.random() > 0.5 else value


@dataclass(frozen=True)
class Operation:
    """An operation on a picture, with its values at M = 0 and M = 30."""

    change: Callable[[Picture, float, Rngs], Picture]
    weakest: float
    strongest: float

    def value(self, strength: float) -> float:
        """Return the value of this operation at strength M."""
        return strength / STRONGEST * (self.strongest - self.weakest) + self.weakest


OPERATIONS = {  # the order determines sampling; values are in the unit of each operation
    "AutoContrast": Operation(_autocontrast, 0, 1),
    "Equalize": Operation(_equalize, 0, 1),
    "Invert": Operation(_invert, 0, 1),
    "Rotate": Operation(_rotate, 0, 30),  # degrees
    "Posterize": Operation(_posterize, 0, 4),  # bits kept
    "Solarize": Operation(_solarize, 0, 256),
    "SolarizeAdd": Operation(_solarize_add, 0, 110),
    "Color": Operation(_color, 0.1, 1.9),
    "Contrast": Operation(_contrast, 0.1, 1.9),
    "Brightness": Operation(_brightness, 0.1, 1.9),
    "Sharpness": Operation(_sharpness, 0.1, 1.9),
    "ShearX": Operation(_shear_x, 0.0, 0.3),
    "ShearY": Operation(_shear_y, 0.0, 0.3),
    "CutoutAbs": Operation(_cutout, 0, 40),  # pixels
    "TranslateXabs": Operation(_translate_x, 0.0, 100),  # pixels
    "TranslateYabs": Operation(_translate_y, 0.0, 100),  # pixels
}


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """RandAugment with N operations at strength M."""

    num_operations: int  # N
    strength: float  # M, 0 to 30
    scope: Scope = "frame"

    def __call__(self, frames: Frames, *, rngs: Rngs) -> Frames:
        """Augment T frames; advances `rngs.python`, and `rngs.numpy` for cutout."""
        if self.scope == "frame":
            return [self.change(frame, self.draw_names(rngs), rngs=rngs) for frame in frames]
        names = self.draw_names(rngs)
        earlier = [self.change(frame, names, rngs=rngs.copy_state()) for frame in frames[:-1]]
        return [*earlier, self.change(frames[-1], names, rngs=rngs)]

    def draw_names(self, rngs: Rngs) -> list[str]:
        """Sample N operations with replacement."""
        return rngs.python.choices(list(OPERATIONS), k=self.num_operations)

    def change(self, frame: UInt8Array, names: Sequence[str], *, rngs: Rngs) -> UInt8Array:
        """Apply the named operations to a frame [H, W, 3]."""
        picture = Image.fromarray(frame)
        for name in names:
            operation = OPERATIONS[name]
            picture = operation.change(picture, operation.value(self.strength), rngs)
        return np.asarray(picture)
