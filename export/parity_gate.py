"""The parity gate: compare the exported graphs with torch, on every runtime of this machine that can serve them.

`golden` is the content of `parity.npz`: `frames` uint8 [n, T, 3, S, S], `tokens` int64 [r, L] and, in float32 from
torch, `video_features` [n, D], `text_features` [r, D] and, for X-CLIP, `patch_features` [n, P, D] and `logits` [n, r].
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from export.errors import ParityError
from export.runtimes import Arrays, Load, available_runtimes
from serve.arrays import Float32Array
from serve.parity import (
    CLEAR_MARGIN,
    FULL_PRECISION_TOLERANCE,
    HALF_PRECISION,
    HALF_PRECISION_COSINE,
    ArrayDifference,
    clear_disagreements,
    compare,
    cosine_logits,
)


@dataclass(frozen=True, kw_only=True)
class RuntimeParity:
    """Differences of one runtime from torch; `is_passed` follows the rule of its precision."""

    is_passed: bool
    top1_disagreements: int = 0  # clips whose best prompt differs although torch's margin is clear
    arrays: Mapping[str, ArrayDifference] = field(default_factory=dict)
    failure: str = ""  # why the runtime could not run the graphs at all


def measure_parity(graphs: Mapping[str, Path], golden: Arrays, *, logit_scale: float) -> dict[str, RuntimeParity]:
    """Run the golden clips and prompts through `graphs` ("video", "text", ...) on each runtime of this machine."""
    loaders, _ = available_runtimes()
    return {label: _measure(label, load, graphs, golden, logit_scale=logit_scale) for label, load in loaders.items()}


def require_parity(found: Mapping[str, RuntimeParity]) -> None:
    """Raise if a full-precision runtime differs; a failure of bf16 is recorded in the contract, and only forbids bf16.

    Raises:
        ParityError: names the runtime and its figures.
    """
    for label, parity in found.items():
        if label in HALF_PRECISION or parity.is_passed:
            continue
        if parity.failure:
            raise ParityError(f"{label} cannot run the graphs: {parity.failure}")
        shown = ", ".join(f"{name} {item.relative_difference:.2e}" for name, item in parity.arrays.items())
        raise ParityError(
            f"{label} differs from torch: "
            f"relative differences {shown} (allowed {FULL_PRECISION_TOLERANCE:.0e}), "
            f"{parity.top1_disagreements} other top-1 (allowed 0)"
        )


def parity_document(found: Mapping[str, RuntimeParity]) -> dict[str, Any]:
    """Return the figures for the contract, with their tolerances and the runtimes that were not available."""
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


def _measure(
    label: str, load: Load, graphs: Mapping[str, Path], golden: Arrays, *, logit_scale: float
) -> RuntimeParity:
    try:
        found, expected = _outputs(load, graphs, golden, logit_scale=logit_scale)
    except Exception as error:  # the libraries raise bare and pybind exceptions
        return RuntimeParity(is_passed=False, failure=str(error).strip())
    arrays = {name: compare(found[name], expected[name]) for name in expected}
    disagreements = clear_disagreements(found["logits"], expected["logits"])
    features = [item for name, item in arrays.items() if name != "logits"]
    if label in HALF_PRECISION:
        is_close = all(item.lowest_cosine >= HALF_PRECISION_COSINE for item in features)
    else:
        is_close = all(item.relative_difference <= FULL_PRECISION_TOLERANCE for item in arrays.values())
    return RuntimeParity(is_passed=is_close and disagreements == 0, top1_disagreements=disagreements, arrays=arrays)


def _outputs(
    load: Load, graphs: Mapping[str, Path], golden: Arrays, *, logit_scale: float
) -> tuple[dict[str, Float32Array], dict[str, Float32Array]]:
    """Return (found, expected) by name; X-CLIP's head and the fusion graph take inputs computed by the same runtime.

    Graphs are loaded one at a time, so a large model is in memory once.
    """
    video = load(graphs["video"])({"frames": golden["frames"]})
    text = load(graphs["text"])({"tokens": golden["tokens"]})
    found = {**video, **text}
    expected = {name: golden[name] for name in found}
    if "head" in graphs:
        found["logits"] = load(graphs["head"])({**video, **text})["logits"]
        expected["logits"] = golden["logits"]
    else:
        found["logits"], expected["logits"] = (
            cosine_logits(item["video_features"], item["text_features"], logit_scale=logit_scale)
            for item in (found, expected)
        )
    if "frames" in graphs:
        for name, rows in _through_halves(load, graphs, golden["frames"]).items():
            found[f"halves.{name}"], expected[f"halves.{name}"] = rows, golden[name]
    return found, expected


def _through_halves(load: Load, graphs: Mapping[str, Path], frames: NDArray[Any]) -> dict[str, Float32Array]:
    """Return the outputs of the video graph computed by its two halves: single frames, then their fusion per clip."""
    num_clips, num_frames = frames.shape[:2]
    rows = frames.reshape(num_clips * num_frames, *frames.shape[2:])
    single = load(graphs["frames"])({"frames": rows})  # [n*T, ...]
    joined = {name: item.reshape(num_clips, num_frames, -1) for name, item in single.items()}
    return load(graphs["fusion"])(joined)
