"""The parity gate: the exported graphs against torch, on every runtime of this machine that serves them.

`golden` is what `parity.npz` holds: `frames` uint8 [n, T, 3, S, S], `tokens` int64 [r, L] and, in float32 from torch,
`video_features` [n, D], `text_features` [r, D] and, for X-CLIP, `patch_features` [n, P, D] and `logits` [n, r].
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ParityError
from export.runtimes import Arrays, Load, Run, available_runtimes
from serve.arrays import Float32Array

FULL_PRECISION_TOLERANCE = 1e-4  # largest difference over largest value: fp32 sums in another order
HALF_PRECISION_COSINE = 0.999  # bf16 keeps 8 bits
CLEAR_MARGIN = 0.2  # logits; below it two labels are as good as tied and rounding may swap them
HALF_PRECISION = frozenset({"openvino-bf16"})
MINUTE_VALUE = 1e-30  # stands for the largest of values that are all zero


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One array of one runtime against torch's."""

    relative_difference: float  # largest difference over largest value
    lowest_cosine: float  # over rows
    largest_difference: float


@dataclass(frozen=True, kw_only=True)
class RuntimeParity:
    """One runtime against torch; `is_passed` by the rule of its precision."""

    is_passed: bool
    top1_disagreements: int  # clips whose best prompt differs although torch's margin is clear
    arrays: Mapping[str, Figures]


def measure_parity(graphs: Mapping[str, Path], golden: Arrays, *, logit_scale: float) -> dict[str, RuntimeParity]:
    """Run the golden clips and prompts through `graphs` ("video", "text", ...) on each runtime of this machine."""
    loaders, _ = available_runtimes()
    return {label: _measure(label, load, graphs, golden, logit_scale=logit_scale) for label, load in loaders.items()}


def require_parity(found: Mapping[str, RuntimeParity]) -> None:
    """Full precision must hold everywhere; a failure of bf16 only forbids bf16, which the contract's figures then say.

    Raises:
        ParityError: names the runtime and its figures.
    """
    for label, parity in found.items():
        if label not in HALF_PRECISION and not parity.is_passed:
            shown = ", ".join(f"{name} {item.relative_difference:.2e}" for name, item in parity.arrays.items())
            raise ParityError(
                f"{label} does not give torch's numbers: "
                f"relative differences {shown} (allowed {FULL_PRECISION_TOLERANCE:.0e}), "
                f"{parity.top1_disagreements} other top-1 (allowed 0)"
            )


def parity_document(found: Mapping[str, RuntimeParity]) -> dict[str, Any]:
    """The figures for the contract, with the rules they were judged by and the runtimes that were not there."""
    _, absent = available_runtimes()
    return {
        "rules": {
            "relative_difference": FULL_PRECISION_TOLERANCE,
            "half_precision_cosine": HALF_PRECISION_COSINE,
            "clear_margin": CLEAR_MARGIN,
        },
        "runtimes": {label: asdict(item) for label, item in found.items()},
        "not_measured": absent,
    }


def cosine_logits(video_features: Float32Array, text_features: Float32Array, *, logit_scale: float) -> Float32Array:
    """logits [n, r] of every clip against every prompt for the families without a prompt head."""
    logits: Float32Array = np.float32(logit_scale) * (_unit(video_features) @ _unit(text_features).T)
    return logits


def compare(found: Float32Array, expected: Float32Array) -> Figures:
    """Figures of one array; a wrong shape or a value that is no number is as far off as can be."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return Figures(relative_difference=float("inf"), lowest_cosine=-1.0, largest_difference=float("inf"))
    largest = float(np.abs(found.astype(np.float64) - expected).max())
    return Figures(
        relative_difference=largest / max(float(np.abs(expected).max()), MINUTE_VALUE),
        lowest_cosine=float((_unit(found) * _unit(expected)).sum(axis=-1).min()),
        largest_difference=largest,
    )


def _measure(
    label: str, load: Load, graphs: Mapping[str, Path], golden: Arrays, *, logit_scale: float
) -> RuntimeParity:
    runs = {name: load(path) for name, path in graphs.items()}
    found, expected = _outputs(runs, golden, logit_scale=logit_scale)
    arrays = {name: compare(found[name], expected[name]) for name in expected}
    disagreements = _clear_disagreements(found["logits"], expected["logits"])
    features = [item for name, item in arrays.items() if name != "logits"]
    if label in HALF_PRECISION:
        is_close = all(item.lowest_cosine >= HALF_PRECISION_COSINE for item in features)
    else:
        is_close = all(item.relative_difference <= FULL_PRECISION_TOLERANCE for item in arrays.values())
    return RuntimeParity(is_passed=is_close and disagreements == 0, top1_disagreements=disagreements, arrays=arrays)


def _outputs(
    runs: Mapping[str, Run], golden: Arrays, *, logit_scale: float
) -> tuple[dict[str, Float32Array], dict[str, Float32Array]]:
    """(found, expected) by name; X-CLIP's head and the fusion half are fed with what their own runtime computed."""
    video = runs["video"]({"frames": golden["frames"]})
    text = runs["text"]({"tokens": golden["tokens"]})
    found = {**video, **text}
    expected = {name: golden[name] for name in found}
    if "head" in runs:
        found["logits"] = runs["head"]({**video, **text})["logits"]
        expected["logits"] = golden["logits"]
    else:
        found["logits"], expected["logits"] = (
            cosine_logits(item["video_features"], item["text_features"], logit_scale=logit_scale)
            for item in (found, expected)
        )
    if "frames" in runs:
        found["halves"] = _through_halves(runs, golden["frames"])
        expected["halves"] = golden["video_features"]
    return found, expected


def _through_halves(runs: Mapping[str, Run], frames: NDArray[Any]) -> Float32Array:
    num_clips, num_frames = frames.shape[:2]
    single = runs["frames"]({"frames": frames.reshape(num_clips * num_frames, *frames.shape[2:])})["frame_features"]
    return runs["fusion"]({"frame_features": single.reshape(num_clips, num_frames, -1)})["video_features"]  # [n, D]


def _clear_disagreements(found: Float32Array, expected: Float32Array) -> int:
    if found.shape != expected.shape or expected.shape[1] < 2:
        return 0
    ordered = np.sort(expected, axis=1)
    is_clear = ordered[:, -1] - ordered[:, -2] > CLEAR_MARGIN
    return int((is_clear & (found.argmax(axis=1) != expected.argmax(axis=1))).sum())


def _unit(rows: NDArray[Any]) -> Float32Array:
    exact = rows.astype(np.float64)
    unit: Float32Array = (exact / np.maximum(np.linalg.norm(exact, axis=-1, keepdims=True), MINUTE_VALUE)).astype(
        np.float32
    )
    return unit
