"""Rules that decide whether two runtimes agree; used by the parity gate of export and the check at startup."""

from dataclasses import dataclass

import numpy as np

from serve.arrays import Float32Array

FULL_PRECISION_TOLERANCE = 1e-4  # largest difference / largest value: fp32 sums in a different order
HALF_PRECISION_COSINE = 0.999  # lowest cosine; bf16 and fp16 have 8 and 11 significant bits
HALF_PRECISION = frozenset({"openvino-bf16", "onnxruntime-tensorrt", "triton-fp16"})
CLEAR_MARGIN = 0.2  # in logits; with a smaller margin rounding may swap the best two labels
EPSILON = 1e-30  # lower bound of divisors, so that zero features give no division by zero


@dataclass(frozen=True, kw_only=True)
class ArrayDifference:
    """Differences between an array and the expected array."""

    relative_difference: float  # largest difference / largest expected value
    lowest_cosine: float  # over the vectors of the last axis
    largest_difference: float


def compare(actual: Float32Array, expected: Float32Array) -> ArrayDifference:
    """Compare an array with the expected one; a wrong shape or a non-finite value gives infinite differences.

    >>> features = np.array([[1.0, 0.0]], np.float32)
    >>> compare(features, 2 * features)
    ArrayDifference(relative_difference=0.5, lowest_cosine=1.0, largest_difference=1.0)
    """
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return ArrayDifference(relative_difference=float("inf"), lowest_cosine=-1.0, largest_difference=float("inf"))
    largest = float(np.abs(actual.astype(np.float64) - expected).max())
    return ArrayDifference(
        relative_difference=largest / max(float(np.abs(expected).max()), EPSILON),
        lowest_cosine=float((_normalize(actual) * _normalize(expected)).sum(axis=-1).min()),
        largest_difference=largest,
    )


def cosine_logits(video_features: Float32Array, text_features: Float32Array, *, logit_scale: float) -> Float32Array:
    """Return logits [n, r] of n clips and r prompts, for families without a prompt head.

    >>> features = np.array([[3.0, 0.0]], np.float32)
    >>> cosine_logits(features, np.eye(2, dtype=np.float32), logit_scale=100.0).tolist()
    [[100.0, 0.0]]
    """
    logits: Float32Array = np.float32(logit_scale) * (_normalize(video_features) @ _normalize(text_features).T)
    return logits


def count_clear_disagreements(actual: Float32Array, expected: Float32Array) -> int:
    """Count the clips whose best label differs from `expected` [n, r] and whose expected margin exceeds `CLEAR_MARGIN`.

    >>> expected = np.array([[1.0, 0.0], [0.1, 0.0]], np.float32)  # the margin of the first clip is clear
    >>> count_clear_disagreements(expected[:, ::-1], expected)
    1
    """
    if actual.shape != expected.shape or expected.shape[1] < 2:
        return 0
    ordered = np.sort(expected, axis=1)
    is_clear = ordered[:, -1] - ordered[:, -2] > CLEAR_MARGIN
    return int((is_clear & (actual.argmax(axis=1) != expected.argmax(axis=1))).sum())


def _normalize(features: Float32Array) -> Float32Array:
    exact = features.astype(np.float64)
    lengths = np.maximum(np.linalg.norm(exact, axis=-1, keepdims=True), EPSILON)
    normalized: Float32Array = (exact / lengths).astype(np.float32)
    return normalized
