"""Parity check: whether a runtime on this machine reproduces the features that the model had in torch.

Export stores a few uint8 clips, tokens and their fp32 features in `parity.npz`; the check runs the loaded graphs on
them. Results are cached by version files, processor and runtime, so that a restart does not repeat the check.
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
class ParityFigures:
    """Results of the check; `is_passed` follows the rule for the engine's precision."""

    engine: str
    relative_difference: float
    lowest_cosine: float
    top1_disagreements: int
    is_passed: bool


class CheckedEngine(Protocol):
    """The part of an engine that the check needs."""

    contract: ModelContract
    label: str

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        """See `Engine`."""

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        """See `Engine`."""

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        """See `Engine`."""


async def check_parity(
    engine: CheckedEngine, repository: Path, *, cache_dir: Path, runtime: str | None
) -> ParityFigures:
    """Run the parity clips, or return the cached result for the same files, processor and runtime.

    With `runtime` None nothing is cached.

    Raises:
        ContractError: the features differ from the stored ones by more than the rule allows.
    """
    memory = _memory(engine, cache_dir, runtime)
    figures = None if memory is None else _remembered(memory)
    if figures is None:
        figures = await measure_parity(engine, repository / engine.contract.parity_file.file)
    if memory is not None and not memory.exists():
        write_atomically(memory, json.dumps(asdict(figures)))
    if not figures.is_passed:
        raise ContractError(
            f"parity of {engine.contract.name}@{engine.contract.version} on {engine.label}: "
            f"largest relative difference {figures.relative_difference:.2e}, "
            f"lowest cosine {figures.lowest_cosine:.5f}, {figures.top1_disagreements} clips with another top-1 label; "
            f"allowed: {_rule(engine.label)}",
            field="parity",
            **asdict(figures),
        )
    logger.info(
        "parity check of %s@%s on %s passed: %s", engine.contract.name, engine.contract.version, engine.label, figures
    )
    return figures


def is_parity_remembered(engine: CheckedEngine, *, cache_dir: Path, runtime: str | None) -> bool:
    """Return whether `check_parity` has a cached result, so that the engine need not be started for it."""
    memory = _memory(engine, cache_dir, runtime)
    return memory is not None and _remembered(memory) is not None


async def measure_parity(engine: CheckedEngine, path: Path) -> ParityFigures:
    """Run the stored clips and tokens through the engine and compare with the stored features."""
    with np.load(path, allow_pickle=False) as stored:
        golden = {name: stored[name] for name in stored.files}
    video = await engine.encode_video(golden["frames"], deadline=float("inf"))
    text = await engine.encode_text(golden["tokens"])
    pairs = [(video.video_features, golden["video_features"]), (text, golden["text_features"])]
    found_logits, golden_logits = await _logits(engine, video, text, golden)
    if video.prototype_features is not None:
        pairs.append((video.prototype_features, golden["prototype_features"]))
    if video.patch_features is not None:
        pairs.append((video.patch_features, golden["patch_features"]))
    if "logits" in golden:
        pairs.append((found_logits, golden_logits))
    figures = [compare(found, expected) for found, expected in pairs]
    relative = max(item.relative_difference for item in figures)
    cosine = min(item.lowest_cosine for item in figures[: 2 if video.prototype_features is None else 3])
    disagreements = count_clear_disagreements(found_logits, golden_logits)
    if engine.label in HALF_PRECISION:
        is_passed = cosine >= HALF_PRECISION_COSINE and disagreements == 0
    else:
        is_passed = relative <= FULL_PRECISION_TOLERANCE and disagreements == 0
    return ParityFigures(
        engine=engine.label,
        relative_difference=relative,
        lowest_cosine=cosine,
        top1_disagreements=disagreements,
        is_passed=bool(is_passed),
    )


async def _logits(
    engine: CheckedEngine, video: VideoFeatures, text: Float32Array, golden: dict[str, Float32Array]
) -> tuple[Float32Array, Float32Array]:
    """Return (found, golden) logits [n, r] of every stored clip and every stored prompt."""
    if "logits" in golden:
        return await engine.prompted_logits(video, text), golden["logits"]
    scale = engine.contract.scoring.logit_scale
    found = cosine_logits(video.video_features, text, logit_scale=scale)
    return found, cosine_logits(golden["video_features"], golden["text_features"], logit_scale=scale)


def _rule(label: str) -> str:
    if label in HALF_PRECISION:
        return f"cosine of at least {HALF_PRECISION_COSINE} and the same top-1 where the margin exceeds {CLEAR_MARGIN}"
    return f"a relative difference of at most {FULL_PRECISION_TOLERANCE:.0e} and the same top-1"


def _memory(engine: CheckedEngine, cache_dir: Path, runtime: str | None) -> Path | None:
    return None if runtime is None else cache_dir / "parity" / f"{_key(engine, runtime)}.json"


def _key(engine: CheckedEngine, runtime: str) -> str:
    facts = [contract_document(engine.contract)["graphs"], engine.contract.parity_file.sha256]
    text = json.dumps([facts, engine.contract.scoring.logit_scale, engine.label, runtime, processor()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def processor() -> str:
    """Return the name and flags of the processor as reported by the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags")
    found = {line.split(":")[0].strip(): line for line in lines if line.startswith(wanted)}
    return "\n".join(found.get(name, "") for name in wanted)


def _remembered(memory: Path) -> ParityFigures | None:
    try:
        return ParityFigures(**json.loads(memory.read_text()))
    except (OSError, ValueError, TypeError):  # missing or corrupt: measure again
        return None
