"""Augment decoded frames to a training clip with the published recipe of each system, before normalisation.

Both recipes decide on crop, mirroring and colour changes once per clip.
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
from training.data.augmentation.crops import CORNERS_AND_CENTRE, THIRTEEN, multiscale_box
from training.data.augmentation.randaugment import RandAugment
from training.data.augmentation.rngs import Rngs

FLIP, JITTER, GRAY = 0.5, 0.8, 0.2  # probabilities, per clip


@dataclass(frozen=True, kw_only=True)
class ActionClipViews:
    """ActionCLIP's training recipe: multi-scale crop of the full frame, Pillow's bilinear, colours."""

    size: int  # S, pixels
    randaugment: RandAugment | None = None  # K400 uses N = 2, M = 9; HMDB51 and UCF101 none
    is_directional: bool = False  # labels distinguish left and right (something-something): never mirror
    jitter_scope: Scope = "frame"
    blur: float = 0.0  # probability
    solarisation: float = 0.0  # probability

    def __call__(self, frames: Frames, *, rngs: Rngs) -> UInt8Array:
        """Augment T frames [H, W, 3] to [T, S, S, 3]; random numbers of disabled steps are drawn too."""
        if self.randaugment is not None:
            frames = self.randaugment(frames, rngs=rngs)
        frames = flip_by_chance(self.crop(frames, rngs=rngs), rngs=rngs, is_directional=self.is_directional)
        if rngs.python.random() < JITTER:
            frames = colour_jitter(frames, rngs=rngs, scope=self.jitter_scope)
        if rngs.python.random() < GRAY:
            frames = grayscale(frames)
        if rngs.python.random() < self.blur:
            frames = gaussian_blur(frames, rngs=rngs)
        if rngs.python.random() < self.solarisation:
            frames = solarise(frames)
        return np.stack(frames)

    def crop(self, frames: Frames, *, rngs: Rngs) -> Frames:
        """Crop the same box of all frames and resize it to S by S."""
        height, width = frames[0].shape[:2]
        box = multiscale_box(height, width, self.size, rngs=rngs, offsets=THIRTEEN)
        return [pillow_bilinear(box.cut(frame), self.size, self.size) for frame in frames]


def flip_by_chance(frames: Frames, *, rngs: Rngs, is_directional: bool) -> Frames:
    """Mirror half of the clips; the random number is drawn even if mirroring is disabled."""
    is_mirrored = rngs.python.random() < FLIP
    return flip(frames) if is_mirrored and not is_directional else frames


@dataclass(frozen=True, kw_only=True)
class XClipViews:
    """X-CLIP's training recipe: shorter side to 256/224 of S, multi-scale crop, OpenCV's bilinear, colours."""

    size: int  # S, pixels
    mirrored_labels: Mapping[int, int] = field(default_factory=dict)  # label -> label of its mirror image
    jitter_scope: Scope = "frame"

    def __call__(self, frames: Frames, *, label: int, rngs: Rngs) -> tuple[UInt8Array, int]:
        """Augment T frames [H, W, 3]; return ([T, S, S, 3], label after mirroring)."""
        frames, label = self.flip_by_chance(self.crop(frames, rngs=rngs), label, rngs=rngs)
        if rngs.numpy.rand() < JITTER:
            frames = colour_jitter(frames, rngs=rngs, scope=self.jitter_scope)
        if rngs.numpy.rand() < GRAY:
            frames = grayscale(frames)
        return np.stack(frames), label

    def crop(self, frames: Frames, *, rngs: Rngs, short_side: int | None = None) -> Frames:
        """Resize frames, crop the same box of all, and resize it to S by S."""
        target = short_side or self.size * 256 // 224
        height, width = frames[0].shape[:2]
        height, width = scaled_size(height, width, target, rounding="half_up")
        box = multiscale_box(height, width, self.size, rngs=rngs, offsets=CORNERS_AND_CENTRE)
        return [
            opencv_bilinear(box.cut(opencv_bilinear(frame, width, height)), self.size, self.size) for frame in frames
        ]

    def flip_by_chance(self, frames: Frames, label: int, *, rngs: Rngs) -> tuple[Frames, int]:
        """Mirror half of the clips, with their labels."""
        if rngs.numpy.rand() < FLIP:
            return flip(frames), flip_label(label, self.mirrored_labels)
        return frames, label
