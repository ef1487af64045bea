"""Parity check: test whether a runtime on this machine reproduces the features that torch computed at export.

The export stores a few uint8 clips, tokens and their fp32 features in `parity.npz`; the check runs the loaded graphs on
them. Results are cached by model files, processor and runtime version, so that a restart does not repeat the check.
"""

import hashlib
import json
import logging
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.contract import ModelContract, contract_document
from serve.errors import ContractError
from serve.features import VideoFeatures
from serve.files import write_atomically
from serve.parity import (
    CLEAR_MARGIN,
    FULL_PRECISION_TOLERANCE,
    HALF_PRECISION,
    HALF_PRECISION_COSINE,
    compare,
    cosine_logits,
    count_clear_disagreements,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ParityResult:
    """Result of the parity check."""

    engine: str
    relative_difference: float  # largest difference of any feature, relative to the stored features
    lowest_cosine: float  # lowest cosine similarity of any clip or prompt with its stored features
    top1_disagreements: int  # number of clips with another top-1 label, where the margin is clear
    is_passed: bool  # by the tolerances for the engine's precision


class CheckedEngine(Protocol):
    """The methods of an engine that the parity check uses."""

    contract: ModelContract
    name: str

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        """See `Engine`."""

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        """See `Engine`."""

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        """See `Engine`."""


async def check_parity(
    engine: CheckedEngine, repository: Path, *, cache_dir: Path, runtime_version: str | None
) -> ParityResult:
    """Run the parity check, or return the cached result for the same files, processor and runtime version.

    If `runtime_version` is None, the cache is not used.

    Raises:
        ContractError: the features differ from the stored ones by more than the tolerance.
    """
    cache_path = _cache_path(engine, cache_dir, runtime_version)
    result = None if cache_path is None else _read_cached(cache_path)
    if result is None:
        result = await measure_parity(engine, repository / engine.contract.parity_file.file)
    if cache_path is not None and not cache_path.exists():
        write_atomically(cache_path, json.dumps(asdict(result)))
    if not result.is_passed:
        raise ContractError(
            f"{engine.contract.name}@{engine.contract.version} on {engine.name} failed the parity check: "
            f"largest relative difference {result.relative_difference:.2e}, "
            f"lowest cosine similarity {result.lowest_cosine:.5f}, "
            f"{result.top1_disagreements} clips with another top-1 label; "
            f"required: {_describe_tolerance(engine.name)}",
            field="parity",
            **asdict(result),
        )
    logger.info(
        "parity check of %s@%s on %s passed: %s", engine.contract.name, engine.contract.version, engine.name, result
    )
    return result


def is_parity_cached(engine: CheckedEngine, *, cache_dir: Path, runtime_version: str | None) -> bool:
    """Return whether `check_parity` has a cached result; then the engine does not have to be started for the check."""
    cache_path = _cache_path(engine, cache_dir, runtime_version)
    return cache_path is not None and _read_cached(cache_path) is not None


async def measure_parity(engine: CheckedEngine, path: Path) -> ParityResult:
    """Run the stored clips and tokens through the engine and compare the results with the stored features."""
    with np.load(path, allow_pickle=False) as stored:
        golden = {name: stored[name] for name in stored.files}
    video = await engine.encode_video(golden["frames"], deadline=float("inf"))
    text = await engine.encode_text(golden["tokens"])
    pairs = [(video.video_features, golden["video_features"]), (text, golden["text_features"])]
    actual_logits, golden_logits = await _compute_logits(engine, video, text, golden)
    if video.prototype_features is not None:
        pairs.append((video.prototype_features, golden["prototype_features"]))
    if video.patch_features is not None:
        pairs.append((video.patch_features, golden["patch_features"]))
    if "logits" in golden:
        pairs.append((actual_logits, golden_logits))
    comparisons = [compare(actual, expected) for actual, expected in pairs]
    relative = max(item.relative_difference for item in comparisons)
    cosine = min(item.lowest_cosine for item in comparisons[: 2 if video.prototype_features is None else 3])
    disagreements = count_clear_disagreements(actual_logits, golden_logits)
    if engine.name in HALF_PRECISION:
        is_passed = cosine >= HALF_PRECISION_COSINE and disagreements == 0
    else:
        is_passed = relative <= FULL_PRECISION_TOLERANCE and disagreements == 0
    return ParityResult(
        engine=engine.name,
        relative_difference=relative,
        lowest_cosine=cosine,
        top1_disagreements=disagreements,
        is_passed=bool(is_passed),
    )


async def _compute_logits(
    engine: CheckedEngine, video: VideoFeatures, text: Float32Array, golden: dict[str, Float32Array]
) -> tuple[Float32Array, Float32Array]:
    """Return the (actual, golden) logits [n, r] of n stored clips and r stored prompts."""
    if "logits" in golden:
        return await engine.prompted_logits(video, text), golden["logits"]
    scale = engine.contract.scoring.logit_scale
    actual = cosine_logits(video.video_features, text, logit_scale=scale)
    return actual, cosine_logits(golden["video_features"], golden["text_features"], logit_scale=scale)


def _describe_tolerance(engine_name: str) -> str:
    same_top1 = f"the same top-1 label if the margin exceeds {CLEAR_MARGIN}"
    if engine_name in HALF_PRECISION:
        return f"a cosine similarity of at least {HALF_PRECISION_COSINE} and {same_top1}"
    return f"a relative difference of at most {FULL_PRECISION_TOLERANCE:.0e} and {same_top1}"


def _cache_path(engine: CheckedEngine, cache_dir: Path, runtime_version: str | None) -> Path | None:
    return None if runtime_version is None else cache_dir / "parity" / f"{_cache_key(engine, runtime_version)}.json"


def _cache_key(engine: CheckedEngine, runtime_version: str) -> str:
    contract = engine.contract
    files = [contract_document(contract)["graphs"], contract.parity_file.sha256]
    text = json.dumps(
        [files, contract.scoring.logit_scale, engine.name, runtime_version, processor_name()], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def processor_name() -> str:
    """Return the model name and flags of the processor, as reported by the operating system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = ("model name", "flags")
    values = {line.split(":")[0].strip(): line for line in lines if line.startswith(fields)}
    return "\n".join(values.get(name, "") for name in fields)


def _read_cached(path: Path) -> ParityResult | None:
    """Return the cached result; None if it is missing or invalid."""
    try:
        return ParityResult(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
