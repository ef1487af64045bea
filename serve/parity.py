"""Rules that decide whether two runtimes agree; used by the gate at export and the check at start."""

from dataclasses import dataclass

import numpy as np

from serve.arrays import Float32Array

FULL_PRECISION_TOLERANCE = 1e-4  # largest difference over largest value: rounding of fp32 sums in another order
HALF_PRECISION_COSINE = 0.999  # bf16 and fp16 keep 8 and 11 bits
HALF_PRECISION = frozenset({"openvino-bf16", "onnxruntime-tensorrt", "triton-fp16"})
CLEAR_MARGIN = 0.2  # logits; below it two labels are close to a tie and rounding may swap them
MINUTE_VALUE = 1e-30  # replaces a maximum or a length of zero in a division


@dataclass(frozen=True, kw_only=True)
class ArrayDifference:
    """Differences between one array of a runtime and torch's."""

    relative_difference: float  # largest difference over largest value
    lowest_cosine: float  # over rows
    largest_difference: float


def compare(found: Float32Array, expected: Float32Array) -> ArrayDifference:
    """Compare one array with the expected one; a wrong shape or a non-finite value gives the worst figures.

    >>> rows = np.array([[1.0, 0.0]], np.float32)
    >>> compare(rows, 2 * rows)
    ArrayDifference(relative_difference=0.5, lowest_cosine=1.0, largest_difference=1.0)
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        return ArrayDifference(relative_difference=float("inf"), lowest_cosine=-1.0, largest_difference=float("inf"))
    largest = float(np.abs(found.astype(np.float64) - expected).max())
    return ArrayDifference(
        relative_difference=largest / max(float(np.abs(expected).max()), MINUTE_VALUE),
        lowest_cosine=float((_unit(found) * _unit(expected)).sum(axis=-1).min()),
        largest_difference=largest,
    )


def cosine_logits(video_features: Float32Array, text_features: Float32Array, *, logit_scale: float) -> Float32Array:
    """Return logits [n, r] of every clip and every prompt, for families without a prompt head.

    >>> rows = np.array([[3.0, 0.0]], np.float32)
    >>> cosine_logits(rows, np.eye(2, dtype=np.float32), logit_scale=100.0).tolist()
    [[100.0, 0.0]]
    """
    logits: Float32Array = np.float32(logit_scale) * (_unit(video_features) @ _unit(text_features).T)
    return logits


def clear_disagreements(found: Float32Array, expected: Float32Array) -> int:
    """Count the clips whose best label differs although the margin in `expected` [n, r] exceeds `CLEAR_MARGIN`.

    >>> expected = np.array([[1.0, 0.0], [0.1, 0.0]], np.float32)  # only the first is clear
    >>> clear_disagreements(expected[:, ::-1], expected)
    1
    """
    if found.shape != expected.shape or expected.shape[1] < 2:
        return 0
    ordered = np.sort(expected, axis=1)
    is_clear = ordered[:, -1] - ordered[:, -2] > CLEAR_MARGIN
    return int((is_clear & (found.argmax(axis=1) != expected.argmax(axis=1))).sum())


def _unit(rows: Float32Array) -> Float32Array:
    exact = rows.astype(np.float64)
    lengths = np.maximum(np.linalg.norm(exact, axis=-1, keepdims=True), MINUTE_VALUE)
    unit: Float32Array = (exact / lengths).astype(np.float32)
    return unit
