"""The clips and prompts of `parity.npz`: small, synthetic, cropped from non-square pictures.

Wide and tall videos go through the model's resize and crop rules, so the stored pixels equal those of serving. Shapes
move in them, so the frames of a clip differ.
"""

from collections.abc import Sequence

import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.contract import PreprocessContract, TextContract
from serve.text import prompts
from serve.text.tokenizer import Tokenizer, pad_rows
from serve.video.preprocess import crop_frame

PICTURE_SIZES = ((180, 320), (288, 216), (120, 300))  # H, W: wide, tall, very wide
GENERAL_LABELS = (
    "running",
    "playing the guitar",
    "opening a door",
    "a dog catching a flying disc in a park",
    "pouring water from a jug into three glasses on a wooden table",
)
MAX_LABELS = 8


def golden_frames(preprocess: PreprocessContract, *, num_segments: int) -> UInt8Array:
    """Return frames [n, T, 3, S, S]: one clip for each of `PICTURE_SIZES`."""
    clips = []
    for clip, (height, width) in enumerate(PICTURE_SIZES):
        pictures = [_picture(height, width, clip=clip, time=i / num_segments) for i in range(num_segments)]
        clips.append(
            np.stack([crop_frame(picture, preprocess, num_crops=1)[0] for picture in pictures])
        )  # [T, 3, S, S]
    return np.stack(clips)


def golden_tokens(tokenizer: Tokenizer, text: TextContract, *, labels: Sequence[str]) -> Int64Array:
    """Return tokens [r, L] of prompts of different lengths, cut to the longest if the graph has a dynamic length."""
    chosen = (labels or GENERAL_LABELS)[:MAX_LABELS]
    rows = tokenizer.encode(prompts.fill(chosen, text.templates[:1]))
    return pad_rows(rows, pad_id=text.pad_id, length=None if text.dynamic_length else text.context_length)


def _picture(height: int, width: int, *, clip: int, time: float) -> UInt8Array:
    """Return RGB [H, W, 3]: a gradient, a sliding chequered floor and a moving disc; flat areas compress well."""
    y, x = np.mgrid[0:height, 0:width] / min(height, width)
    colours = np.array([[220, 60, 40], [40, 180, 90], [60, 80, 230]])
    red = 255 * x / x.max()
    green = 255 * y / y.max()
    blue = 128 + 0 * x
    picture = np.stack([red, green, blue][clip % 3 :] + [red, green, blue][: clip % 3], axis=-1) // 16 * 16
    floor = ((x * 4 + time * 3).astype(int) + (y * 4).astype(int)) % 2 == 0
    picture[floor & (y > 0.6)] = 30 + 60 * clip
    centre_x, centre_y = (x.max() * (0.2 + 0.6 * time), 0.35 + 0.3 * time * (clip - 1))
    picture[(x - centre_x) ** 2 + (y - centre_y) ** 2 < 0.04] = colours[clip % 3]
    return picture.astype(np.uint8)
