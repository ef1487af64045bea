"""Colour and mirror augmentations of the frames of a clip.

Whether to augment is decided once per clip. In both published recipes colour jitter samples new factors for each frame,
which flickers; `jitter="clip"` samples them once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps

from serve.arrays import UInt8Array
from training.data.augmentation.rngs import Rngs

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.2, 0.1
BLUR_SIGMA = (0.1, 2.0)  # pixels
SOLARISE_AT = 128

Frames = list[UInt8Array]  # T frames [H, W, 3]
Scope = Literal["frame", "clip"]  # what one sample of parameters applies to


def flip(frames: Frames) -> Frames:
    """Mirror frames horizontally."""
    return [frame[:, ::-1] for frame in frames]


def flip_label(label: int, mirrored: Mapping[int, int]) -> int:
    """Return the label of a mirrored clip; `mirrored` maps labels with left and right onto each other, both ways."""
    both_ways = {**{there: here for here, there in mirrored.items()}, **mirrored}
    return both_ways.get(label, label)


def colour_jitter(frames: Frames, *, rngs: Rngs, scope: Scope = "frame") -> Frames:
    """Change brightness, contrast, saturation and hue randomly, in random order; advances `rngs.torch`."""
    changes = [_jitter_changes(rngs.torch)] if scope == "clip" else [_jitter_changes(rngs.torch) for _ in frames]
    return [_applied(frame, changes[i if len(changes) > 1 else 0]) for i, frame in enumerate(frames)]


def grayscale(frames: Frames) -> Frames:
    """Replace all channels by the luminance."""
    return [np.asarray(Image.fromarray(frame).convert("L").convert("RGB")) for frame in frames]


def gaussian_blur(frames: Frames, *, rngs: Rngs) -> Frames:
    """Blur with one random radius for the clip; advances `rngs.python`."""
    radius = rngs.python.uniform(*BLUR_SIGMA)
    return [np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius))) for frame in frames]


def solarise(frames: Frames) -> Frames:
    """Invert every value of 128 and above."""
    return [np.asarray(ImageOps.solarize(Image.fromarray(frame), SOLARISE_AT)) for frame in frames]


def _jitter_changes(generator: torch.Generator) -> list[Callable[[Image.Image], Image.Image]]:
    """Return four changes in their order; samples random numbers like torchvision's `ColorJitter`."""
    from torchvision.transforms import functional  # takes seconds to import in each loading process

    order = torch.randperm(4, generator=generator).tolist()
    ranges = [(1 - BRIGHTNESS, 1 + BRIGHTNESS), (1 - CONTRAST, 1 + CONTRAST), (1 - SATURATION, 1 + SATURATION)]
    factors = [_uniform(generator, low, high) for low, high in [*ranges, (-HUE, HUE)]]
    kernels = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    return [_change(kernels[i], factors[i]) for i in order]


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return float(torch.empty(1).uniform_(low, high, generator=generator))


def _change(kernel: Callable[[Image.Image, float], Image.Image], factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: kernel(picture, factor)


def _applied(frame: UInt8Array, changes: Sequence[Callable[[Image.Image], Image.Image]]) -> UInt8Array:
    picture = Image.fromarray(frame)
    for change in changes:
        picture = change(picture)
    return np.asarray(picture)
