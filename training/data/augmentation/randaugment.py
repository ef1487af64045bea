"""RandAugment (arXiv:1909.13719) as used by ActionCLIP: N operations, sampled with replacement, with magnitude M of 30.

Geometric operations have a random direction, use nearest-neighbour interpolation and fill with black. ActionCLIP
samples operations for each frame; `scope="clip"` uses the same operations for all frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from serve.arrays import UInt8Array
from training.data.augmentation.augmentations import Frames, Scope
from training.data.augmentation.rngs import Rngs

MAX_MAGNITUDE = 30
CUTOUT_COLOUR = (125, 123, 114)


def _autocontrast(image: Image.Image, _: float, __: Rngs) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, _: float, __: Rngs) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, _: float, __: Rngs) -> Image.Image:
    return ImageOps.invert(image)


def _rotate(image: Image.Image, degrees: float, rngs: Rngs) -> Image.Image:
    return image.rotate(_random_sign(degrees, rngs))


def _posterize(image: Image.Image, bits: float, _: Rngs) -> Image.Image:
    return ImageOps.posterize(image, max(1, int(bits)))


def _solarize(image: Image.Image, threshold: float, _: Rngs) -> Image.Image:
    # The stub requires an int, but a fractional threshold such as 76.8 works: values at or above it are inverted.
    return ImageOps.solarize(image, threshold)  # type: ignore[arg-type]


def _solarize_add(image: Image.Image, addition: float, _: Rngs) -> Image.Image:
    brighter = np.clip(np.asarray(image).astype(np.int64) + addition, 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(brighter), 128)


def _color(image: Image.Image, factor: float, _: Rngs) -> Image.Image:
    return ImageEnhance.Color(image).enhance(factor)


def _contrast(image: Image.Image, factor: float, _: Rngs) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _brightness(image: Image.Image, factor: float, _: Rngs) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _sharpness(image: Image.Image, factor: float, _: Rngs) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(factor)


def _shear_x(image: Image.Image, slope: float, rngs: Rngs) -> Image.Image:
    return _affine(image, (1, _random_sign(slope, rngs), 0, 0, 1, 0))


def _shear_y(image: Image.Image, slope: float, rngs: Rngs) -> Image.Image:
    return _affine(image, (1, 0, 0, _random_sign(slope, rngs), 1, 0))


def _translate_x(image: Image.Image, pixels: float, rngs: Rngs) -> Image.Image:
    return _affine(image, (1, 0, _random_sign(pixels, rngs), 0, 1, 0))


def _translate_y(image: Image.Image, pixels: float, rngs: Rngs) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, _random_sign(pixels, rngs)))


def _cutout(image: Image.Image, side: float, rngs: Rngs) -> Image.Image:
    """Fill a square with one colour; as in ActionCLIP, its centre is uniform between pixel 1 and the far edges."""
    width, height = image.size
    centre_x, centre_y = rngs.numpy.uniform(width, 1.0), rngs.numpy.uniform(height, 1.0)
    left, top = int(max(0, centre_x - side / 2)), int(max(0, centre_y - side / 2))
    covered = image.copy()
    box = (left, top, min(width, left + side), min(height, top + side))
    ImageDraw.Draw(covered).rectangle(box, CUTOUT_COLOUR)
    return covered


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def _random_sign(value: float, rngs: Rngs) -> float:
    return -value if rngs.python.random() > 0.5 else value


@dataclass(frozen=True)
class Operation:
    """An operation on an image, with the values of its parameter at M = 0 and M = 30."""

    apply: Callable[[Image.Image, float, Rngs], Image.Image]
    value_at_min: float
    value_at_max: float

    def value(self, magnitude: float) -> float:
        """Return the value of the parameter at magnitude M."""
        return magnitude / MAX_MAGNITUDE * (self.value_at_max - self.value_at_min) + self.value_at_min


OPERATIONS = {  # do not reorder: random numbers select operations by position
    "AutoContrast": Operation(_autocontrast, 0, 1),
    "Equalize": Operation(_equalize, 0, 1),
    "Invert": Operation(_invert, 0, 1),
    "Rotate": Operation(_rotate, 0, 30),  # degrees
    "Posterize": Operation(_posterize, 0, 4),  # bits per channel that remain
    "Solarize": Operation(_solarize, 0, 256),  # threshold
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
    """RandAugment with N operations of magnitude M."""

    num_operations: int  # N
    magnitude: float  # M, 0 to 30
    scope: Scope = "frame"

    def __call__(self, frames: Frames, *, rngs: Rngs) -> Frames:
        """Augment T frames; advances `rngs.python`, and `rngs.numpy` for cutout."""
        if self.scope == "frame":
            return [self.apply(frame, self.sample_operations(rngs), rngs=rngs) for frame in frames]
        names = self.sample_operations(rngs)
        augmented = [self.apply(frame, names, rngs=rngs.copy_state()) for frame in frames[:-1]]
        return [*augmented, self.apply(frames[-1], names, rngs=rngs)]  # only the last frame advances `rngs`

    def sample_operations(self, rngs: Rngs) -> list[str]:
        """Sample the names of N operations with replacement."""
        return rngs.python.choices(list(OPERATIONS), k=self.num_operations)

    def apply(self, frame: UInt8Array, names: Sequence[str], *, rngs: Rngs) -> UInt8Array:
        """Apply the named operations to a frame [H, W, 3]."""
        image = Image.fromarray(frame)
        for name in names:
            operation = OPERATIONS[name]
            image = operation.apply(image, operation.value(self.magnitude), rngs)
        return np.asarray(image)
