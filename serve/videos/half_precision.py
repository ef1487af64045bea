"""Convert features to float16 rows with one scale per row, and back.

A row is divided by a power of two so that its largest value lies in (0.5, 1], which is exact, and rounded to float16.
A value keeps 11 significant bits: its relative error is at most 2^-11 = 0.00049, or 2^-25 of the row's scale for values
below 2^-14 of it. The direction of a row turns by at most an angle of 2^-11, so a cosine changes by at most 0.00049 and
a logit by that times the model's scale. Rounding a rounded row changes nothing.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array
from serve.features import VideoFeatures

MAX_RELATIVE_ERROR = 2.0**-11


def pack_rows(values: Float32Array) -> bytes:
    """Return rows [N, ...] as bytes: N scales as float32, then the values as float16, little endian.

    >>> unpack_rows(pack_rows(np.array([[3.0, -0.5]], np.float32)), num_rows=1).tolist()
    [[3.0, -0.5]]
    """
    rows = values.reshape(len(values), -1)
    _, exponents = np.frexp(np.abs(rows).max(axis=1, initial=0))  # [N]
    scales = np.ldexp(np.float32(1), exponents).astype(np.float32)
    halves: NDArray[np.float16] = (rows / scales[:, None]).astype("<f2")
    return b"".join((scales.astype("<f4").tobytes(), halves.tobytes()))


def unpack_rows(body: bytes, *, num_rows: int) -> Float32Array:
    """Return the rows [N, W] of `pack_rows`.

    Raises:
        ValueError: the bytes do not have the size of N rows.
    """
    scales = np.frombuffer(body, "<f4", count=num_rows)
    values = np.frombuffer(body, "<f2", offset=4 * num_rows)
    rows: Float32Array = values.reshape(num_rows, -1).astype(np.float32)
    rows *= scales[:, None]
    return rows


def round_features(features: VideoFeatures) -> VideoFeatures:
    """Round features to the values that they have after they are stored and read again."""
    return replace(
        features,
        video_features=_round_rows(features.video_features),
        patch_features=None if features.patch_features is None else _round_rows(features.patch_features),
        prototype_features=None if features.prototype_features is None else _round_rows(features.prototype_features),
    )


def _round_rows(values: Float32Array) -> Float32Array:
    return unpack_rows(pack_rows(values), num_rows=len(values)).reshape(values.shape)
