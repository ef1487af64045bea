"""The parity check: compare exported graphs with torch on every available runtime that can serve them.

`golden` is the content of `parity.npz`: `frames` uint8 [n, T, 3, S, S], `tokens` int64 [r, L], and torch's float32
outputs `video_features` [n, D], `text_features` [r, D] and, for X-CLIP, `patch_features` [n, P, D] and `logits` [n, r].
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from export.errors import ParityError
from export.runtimes import Arrays, RuntimeLoader, available_runtimes
from serve.arrays import Float32Array
from serve.parity import (
    CLEAR_MARGIN,
    FULL_PRECISION_TOLERANCE,
    HALF_PRECISION,
    HALF_PRECISION_COSINE,
    ArrayDifference,
    compare,
    cosine_logits,
    count_clear_disagreements,
)


@dataclass(frozen=True, kw_only=True)
class RuntimeParity:
    """Differences of one runtime from torch; `is_passed` depends on the tolerance for its precision."""

    is_passed: bool
    top1_disagreements: int = 0  # clips with a different best prompt although torch's margin is clear
    arrays: Mapping[str, ArrayDifference] = field(default_factory=dict)
    failure: str = ""  # why the runtime could not run the graphs; empty if it could


def measure_parity(graphs: Mapping[str, Path], golden: Arrays, *, logit_scale: float) -> dict[str, RuntimeParity]:
    """Run the golden clips and prompts through the graphs ("video", "text", ...) on each available runtime."""
    loaders, _ = available_runtimes()
    return {name: _measure(name, load, graphs, golden, logit_scale=logit_scale) for name, load in loaders.items()}


def require_parity(results: Mapping[str, RuntimeParity]) -> None:
    """Raise if a full-precision runtime fails; a bf16 failure is recorded in the contract, so that bf16 is not used.

    Raises:
        ParityError: a runtime differs from torch or cannot run the graphs; the message has the differences.
    """
    for runtime, parity in results.items():
        if runtime in HALF_PRECISION or parity.is_passed:
            continue
        if parity.failure:
            raise ParityError(f"{runtime} cannot run the graphs: {parity.failure}")
        differences = ", ".join(f"{name} {item.relative_difference:.2e}" for name, item in parity.arrays.items())
        raise ParityError(
            f"{runtime} differs from torch: "
            f"relative differences {differences} (at most {FULL_PRECISION_TOLERANCE:.0e} allowed), "
            f"{parity.top1_disagreements} different top-1 predictions (0 allowed)"
        )


def parity_document(results: Mapping[str, RuntimeParity]) -> dict[str, Any]:
    """Return the results for the contract, with the tolerances and the runtimes that were not available."""
    _, unavailable = available_runtimes()
    return {
        "rules": {
            "relative_difference": FULL_PRECISION_TOLERANCE,
            "half_precision_cosine": HALF_PRECISION_COSINE,
            "clear_margin": CLEAR_MARGIN,
        },
        "runtimes": {name: asdict(item) for name, item in results.items()},
        "not_measured": unavailable,
    }


def _measure(
    runtime: str, load: RuntimeLoader, graphs: Mapping[str, Path], golden: Arrays, *, logit_scale: float
) -> RuntimeParity:
    try:
        actual, expected = _outputs(load, graphs, golden, logit_scale=logit_scale)
    except Exception as error:  # the libraries raise exceptions of many types
        return RuntimeParity(is_passed=False, failure=str(error).strip())
    arrays = {name: compare(actual[name], expected[name]) for name in expected}
    disagreements = count_clear_disagreements(actual["logits"], expected["logits"])
    features = [item for name, item in arrays.items() if name != "logits"]
    if runtime in HALF_PRECISION:
        is_close = all(item.lowest_cosine >= HALF_PRECISION_COSINE for item in features)
    else:
        is_close = all(item.relative_difference <= FULL_PRECISION_TOLERANCE for item in arrays.values())
    return RuntimeParity(is_passed=is_close and disagreements == 0, top1_disagreements=disagreements, arrays=arrays)


def _outputs(
    load: RuntimeLoader, graphs: Mapping[str, Path], golden: Arrays, *, logit_scale: float
) -> tuple[dict[str, Float32Array], dict[str, Float32Array]]:
    """Return the outputs of a runtime and those of torch by name.

    The inputs of the head and the fusion graph are outputs of the same runtime. Graphs are loaded one at a time, so
    that a large model is in memory only once.
    """
    video = load(graphs["video"])({"frames": golden["frames"]})
    text = load(graphs["text"])({"tokens": golden["tokens"]})
    actual = {**video, **text}
    expected = {name: golden[name] for name in actual}
    if "head" in graphs:
        actual["logits"] = load(graphs["head"])({**video, **text})["logits"]
        expected["logits"] = golden["logits"]
    else:
        actual["logits"], expected["logits"] = (
            cosine_logits(item["video_features"], item["text_features"], logit_scale=logit_scale)
            for item in (actual, expected)
        )
    if "frames" in graphs:
        for name, array in _run_frames_and_fusion(load, graphs, golden["frames"]).items():
            actual[f"halves.{name}"], expected[f"halves.{name}"] = array, golden[name]
    return actual, expected


def _run_frames_and_fusion(
    load: RuntimeLoader, graphs: Mapping[str, Path], frames: NDArray[Any]
) -> dict[str, Float32Array]:
    """Return the outputs of the fusion graph on the outputs of the frames graph; equal to those of the video graph."""
    num_clips, num_frames = frames.shape[:2]
    single_frames = frames.reshape(num_clips * num_frames, *frames.shape[2:])
    outputs = load(graphs["frames"])({"frames": single_frames})  # [n*T, ...]
    clips = {name: item.reshape(num_clips, num_frames, -1) for name, item in outputs.items()}
    return load(graphs["fusion"])(clips)
