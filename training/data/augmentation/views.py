"""Augment decoded frames into a training clip with the published recipes of ActionCLIP and X-CLIP.

Both recipes sample the crop box, and whether to apply mirroring and each colour change, once per clip; the factors of
colour jitter are sampled once per frame by default. Normalisation follows later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from serve.arrays import UInt8Array
from serve.video.preprocess import opencv_bilinear, pillow_bilinear, scaled_size
from training.data.augmentation.augmentations import (
    Frames,
    Scope,
    colour_jitter,
    flip,
    flip_label,
    gaussian_blur,
    grayscale,
    solarise,
)
from training.data.augmentation.crops import CORNERS_AND_CENTRE, THIRTEEN_OFFSETS, multiscale_box
from training.data.augmentation.randaugment import RandAugment
from training.data.augmentation.rngs import Rngs

FLIP_PROBABILITY, JITTER_PROBABILITY, GRAY_PROBABILITY = 0.5, 0.8, 0.2  # per clip


@dataclass(frozen=True, kw_only=True)
class ActionClipTrainTransform:
    """ActionCLIP's training recipe: multi-scale crop of the full frame, bilinear resize by Pillow, colour changes."""

    size: int  # S, pixels
    randaugment: RandAugment | None = None  # N = 2, M = 9 on Kinetics-400; None on HMDB51 and UCF101
    is_directional: bool = False  # labels distinguish left and right (Something-Something): never mirror
    jitter_scope: Scope = "frame"
    blur: float = 0.0  # probability
    solarisation: float = 0.0  # probability

    def __call__(self, frames: Frames, *, rngs: Rngs) -> UInt8Array:
        """Augment T frames [H, W, 3] into a clip [T, S, S, 3].

        Random numbers are drawn for disabled steps too, so that disabling a step does not change the others.
        """
        if self.randaugment is not None:
            frames = self.randaugment(frames, rngs=rngs)
        frames = random_flip(self.crop(frames, rngs=rngs), rngs=rngs, is_directional=self.is_directional)
        if rngs.python.random() < JITTER_PROBABILITY:
            frames = colour_jitter(frames, rngs=rngs, scope=self.jitter_scope)
        if rngs.python.random() < GRAY_PROBABILITY:
            frames = grayscale(frames)
        if rngs.python.random() < self.blur:
            frames = gaussian_blur(frames, rngs=rngs)
        if rngs.python.random() < self.solarisation:
            frames = solarise(frames)
        return np.stack(frames)

    def crop(self, frames: Frames, *, rngs: Rngs) -> Frames:
        """Crop the same box from all frames and resize it to S by S."""
        height, width = frames[0].shape[:2]
        box = multiscale_box(height, width, self.size, rngs=rngs, offsets=THIRTEEN_OFFSETS)
        return [pillow_bilinear(box.cut(frame), self.size, self.size) for frame in frames]


def random_flip(frames: Frames, *, rngs: Rngs, is_directional: bool) -> Frames:
    """Mirror the clip with probability 1/2, unless `is_directional`; the random number is drawn in both cases."""
    is_mirrored = rngs.python.random() < FLIP_PROBABILITY
    return flip(frames) if is_mirrored and not is_directional else frames


@dataclass(frozen=True, kw_only=True)
class XClipTrainTransform:
    """X-CLIP's training recipe: resize the shorter side to 256/224 of S, multi-scale crop, colour changes.

    All resizing is bilinear, by OpenCV.
    """

    size: int  # S, pixels
    mirrored_labels: Mapping[int, int] = field(default_factory=dict)  # label -> label of its mirror image
    jitter_scope: Scope = "frame"

    def __call__(self, frames: Frames, *, label: int, rngs: Rngs) -> tuple[UInt8Array, int]:
        """Augment T frames [H, W, 3]; return (clip [T, S, S, 3], label after mirroring)."""
        frames, label = self.random_flip(self.crop(frames, rngs=rngs), label, rngs=rngs)
        if rngs.numpy.rand() < JITTER_PROBABILITY:
            frames = colour_jitter(frames, rngs=rngs, scope=self.jitter_scope)
        if rngs.numpy.rand() < GRAY_PROBABILITY:
            frames = grayscale(frames)
        return np.stack(frames), label

    def crop(self, frames: Frames, *, rngs: Rngs, short_side: int | None = None) -> Frames:
        """Resize the frames, crop the same box from all of them, and resize it to S by S."""
        target = short_side or self.size * 256 // 224
        height, width = frames[0].shape[:2]
        height, width = scaled_size(height, width, target, rounding="half_up")
        box = multiscale_box(height, width, self.size, rngs=rngs, offsets=CORNERS_AND_CENTRE)
        return [
            opencv_bilinear(box.cut(opencv_bilinear(frame, width, height)), self.size, self.size) for frame in frames
        ]

    def random_flip(self, frames: Frames, label: int, *, rngs: Rngs) -> tuple[Frames, int]:
        """Mirror the clip with probability 1/2, and convert its label accordingly."""
        if rngs.numpy.rand() < FLIP_PROBABILITY:
            return flip(frames), flip_label(label, self.mirrored_labels)
        return frames, label
