"""Colour augmentations and mirroring of the frames of a clip.

Whether to augment is decided once per clip. In the published recipes of ActionCLIP and X-CLIP, colour jitter samples
new factors for each frame, which makes the clip flicker; the scope "clip" samples them once per clip.
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
Scope = Literal["frame", "clip"]  # sample random parameters once per frame or once per clip


def flip(frames: Frames) -> Frames:
    """Mirror frames horizontally."""
    return [frame[:, ::-1] for frame in frames]


def flip_label(label: int, mirrored: Mapping[int, int]) -> int:
    """Return the label of a mirrored clip.

    `mirrored` maps a label to the label of its mirror image, e.g. a left turn to a right turn; a pair that is given in
    one direction is also used in the other.
    """
    both_directions = {**{target: source for source, target in mirrored.items()}, **mirrored}
    return both_directions.get(label, label)


def colour_jitter(frames: Frames, *, rngs: Rngs, scope: Scope = "frame") -> Frames:
    """Change brightness, contrast, saturation and hue randomly, in random order; advances `rngs.torch`."""
    if scope == "clip":
        adjustments = _sample_adjustments(rngs.torch)
        return [_apply_all(frame, adjustments) for frame in frames]
    return [_apply_all(frame, _sample_adjustments(rngs.torch)) for frame in frames]


def grayscale(frames: Frames) -> Frames:
    """Replace all channels by the luminance."""
    return [np.asarray(Image.fromarray(frame).convert("L").convert("RGB")) for frame in frames]


def gaussian_blur(frames: Frames, *, rngs: Rngs) -> Frames:
    """Blur all frames with the same random radius; advances `rngs.python`."""
    radius = rngs.python.uniform(*BLUR_SIGMA)
    return [np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius))) for frame in frames]


def solarise(frames: Frames) -> Frames:
    """Invert every value of 128 and above."""
    return [np.asarray(ImageOps.solarize(Image.fromarray(frame), SOLARISE_AT)) for frame in frames]


def _sample_adjustments(generator: torch.Generator) -> list[Callable[[Image.Image], Image.Image]]:
    """Return four adjustments in random order; samples random numbers like torchvision's `ColorJitter`."""
    from torchvision.transforms import functional  # takes seconds to import in each loading process

    order = torch.randperm(4, generator=generator).tolist()
    ranges = [(1 - BRIGHTNESS, 1 + BRIGHTNESS), (1 - CONTRAST, 1 + CONTRAST), (1 - SATURATION, 1 + SATURATION)]
    factors = [_uniform(generator, low, high) for low, high in [*ranges, (-HUE, HUE)]]
    adjust_functions = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    return [_bind_factor(adjust_functions[i], factors[i]) for i in order]


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return float(torch.empty(1).uniform_(low, high, generator=generator))


def _bind_factor(
    adjust: Callable[[Image.Image, float], Image.Image], factor: float
) -> Callable[[Image.Image], Image.Image]:
    return lambda image: adjust(image, factor)


def _apply_all(frame: UInt8Array, adjustments: Sequence[Callable[[Image.Image], Image.Image]]) -> UInt8Array:
    image = Image.fromarray(frame)
    for adjust in adjustments:
        image = adjust(image)
    return np.asarray(image)
