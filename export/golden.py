"""Create the clips and prompts of `parity.npz`: small synthetic videos, and prompts of different lengths.

Non-square frames are resized and cropped by the model's rules, so the stored pixels are those that serving computes.
Shapes move, so that the frames of a clip differ.
"""

from collections.abc import Sequence

import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.contract import PreprocessContract, TextContract
from serve.text import prompts
from serve.text.tokenizer import Tokenizer, pad_tokens
from serve.video.preprocess import crop_frame

FRAME_SIZES = ((180, 320), (288, 216), (120, 300))  # (H, W)
GENERAL_LABELS = (
    "running",
    "playing the guitar",
    "opening a door",
    "a dog catching a flying disc in a park",
    "pouring water from a jug into three glasses on a wooden table",
)
MAX_LABELS = 8


def golden_frames(preprocess: PreprocessContract, *, num_segments: int) -> UInt8Array:
    """Return frames [n, T, 3, S, S]: one clip for each of `FRAME_SIZES`."""
    clips = []
    for clip, (height, width) in enumerate(FRAME_SIZES):
        images = [_draw_frame(height, width, clip=clip, time=i / num_segments) for i in range(num_segments)]
        clips.append(np.stack([crop_frame(image, preprocess, num_crops=1)[0] for image in images]))  # [T, 3, S, S]
    return np.stack(clips)


def golden_tokens(tokenizer: Tokenizer, text: TextContract, *, labels: Sequence[str]) -> Int64Array:
    """Return padded tokens [r, L] of prompts; with a dynamic length, L is the length of the longest prompt."""
    labels = (labels or GENERAL_LABELS)[:MAX_LABELS]
    rows = tokenizer.encode(prompts.fill(labels, text.templates[:1]))
    return pad_tokens(rows, pad_id=text.pad_id, length=None if text.dynamic_length else text.context_length)


def _draw_frame(height: int, width: int, *, clip: int, time: float) -> UInt8Array:
    """Draw an RGB image [H, W, 3] with a gradient, a moving chequered floor and a moving disc.

    Colours have few levels, so that files are small.
    """
    y, x = np.mgrid[0:height, 0:width] / min(height, width)
    colours = np.array([[220, 60, 40], [40, 180, 90], [60, 80, 230]])
    red = 255 * x / x.max()
    green = 255 * y / y.max()
    blue = 128 + 0 * x
    image = np.stack([red, green, blue][clip % 3 :] + [red, green, blue][: clip % 3], axis=-1) // 16 * 16
    floor = ((x * 4 + time * 3).astype(int) + (y * 4).astype(int)) % 2 == 0
    image[floor & (y > 0.6)] = 30 + 60 * clip
    centre_x, centre_y = (x.max() * (0.2 + 0.6 * time), 0.35 + 0.3 * time * (clip - 1))
    image[(x - centre_x) ** 2 + (y - centre_y) ** 2 < 0.04] = colours[clip % 3]
    return image.astype(np.uint8)
