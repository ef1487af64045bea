"""Which runtime a model gets: the one asked for, or under `auto` the fastest that passes the parity check here.

Asking for a runtime by name and getting another does not happen: the start fails. Under `auto` every candidate that was
passed over is reported with its reason.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serve.contract import ModelContract
from serve.engines import ort, ov, triton
from serve.engines.base import Engine
from serve.engines.embedded import EmbeddedEngine, embedded_head
from serve.engines.parity_check import ParityFigures, check_parity, is_parity_remembered
from serve.errors import ContractError
from serve.models.repository import verify_files
from serve.settings import ServeSettings

logger = logging.getLogger(__name__)

RUNTIME_VERSION: dict[str, Callable[[], str]] = {
    "onnxruntime": ort.runtime_version,
    "openvino": ov.runtime_version,
}
HEAD_BESIDE_TRITON = "onnxruntime-cpu"
# rounding hides a graph that is a little wrong (a standard deviation off by 15 % can stay within the cosine asked of
# bf16), so these are taken only where the same files give the model's numbers in full precision
JUDGED_FIRST = {"openvino-bf16": "openvino-f32", "onnxruntime-tensorrt": "onnxruntime-cpu"}


@dataclass(frozen=True, kw_only=True)
class StartedEngine:
    """An engine that is loaded, checked and warm, and why it was chosen."""

    engine: Engine
    parity: ParityFigures
    rejected_engines: dict[str, str]  # label -> reason


def candidates(choice: str) -> tuple[list[str], dict[str, str]]:
    """(labels to try in order, label -> reason for those not worth a try) of a setting."""
    if choice != "auto":
        return [choice], {}
    rejected_engines: dict[str, str] = {}
    labels = []
    if ort.has_cuda_device():
        labels.append("onnxruntime-cuda")
    else:
        rejected_engines["onnxruntime-cuda"] = "no NVIDIA device here"
    if ov.has_bf16():
        labels.append("openvino-bf16")
    else:
        rejected_engines["openvino-bf16"] = "this processor has no bf16"
    return [*labels, "openvino-f32", "onnxruntime-cpu"], rejected_engines


async def start_engine(contract: ModelContract, repository: Path, settings: ServeSettings) -> StartedEngine:
    """Verify the files, then load, check and warm the first candidate that holds.

    Raises:
        ContractError: a file differs from its sha256, or no candidate gives the model's numbers.
    """
    await asyncio.to_thread(verify_files, contract, repository)  # hashing: seconds for a large model
    labels, rejected_engines = candidates(settings.engine)
    cache_dir = settings.cache_dir.expanduser()
    last_error: ContractError | None = None
    for label in labels:
        engine = _engine(contract, repository, label, settings)
        try:
            if label in JUDGED_FIRST:
                await _judge(contract, repository, JUDGED_FIRST[label], settings)
            await engine.start()
            runtime = _runtime_version(label)
            figures = await check_parity(engine, repository, cache_dir=cache_dir, runtime=runtime)
            return StartedEngine(engine=engine, parity=figures, rejected_engines=rejected_engines)
        except ContractError as error:
            await _discard(engine)
            logger.warning("%s passed over for %s@%s: %s", label, contract.name, contract.version, error)
            rejected_engines[label] = error.message
            last_error = error
        except BaseException:
            await _discard(engine)
            raise
    assert last_error is not None, "candidates() never returns an empty list"
    if len(labels) == 1:
        raise last_error
    raise ContractError(f"no runtime gives the numbers of {contract.name}@{contract.version}: {rejected_engines}")


async def _judge(contract: ModelContract, repository: Path, label: str, settings: ServeSettings) -> None:
    """Check the files on an engine that answers nothing; it is not loaded where the result is remembered.

    Raises:
        ContractError: the numbers are not the model's.
    """
    engine = _engine(contract, repository, label, settings)
    cache_dir, runtime = settings.cache_dir.expanduser(), _runtime_version(label)
    try:
        if not is_parity_remembered(engine, cache_dir=cache_dir, runtime=runtime):
            await engine.start()
        await check_parity(engine, repository, cache_dir=cache_dir, runtime=runtime)
    finally:
        await _discard(engine)


def _engine(contract: ModelContract, repository: Path, label: str, settings: ServeSettings) -> Engine:
    cache_dir = settings.cache_dir.expanduser()
    here = {"batch": settings.batch, "threads": settings.threads, "cache_dir": cache_dir}
    if label != triton.LABEL:
        return EmbeddedEngine(contract, repository, label=label, **here)  # type: ignore[arg-type]
    head = embedded_head(contract, repository, label=HEAD_BESIDE_TRITON, **here)  # type: ignore[arg-type]
    return triton.TritonEngine(contract, repository, settings=settings.triton, batch=settings.batch, head=head)


async def _discard(engine: Engine) -> None:
    """Close a candidate that is not taken; what a Triton server loaded for it alone goes too."""
    if isinstance(engine, triton.TritonEngine) and engine.has_loaded:
        await engine.unload()
    await engine.close()


def _runtime_version(label: str) -> str | None:
    """What a parity result is remembered by; None of a server that may change behind its address."""
    return None if label == triton.LABEL else RUNTIME_VERSION[label.partition("-")[0]]()
