"""Engine selection: the configured runtime, or with `auto` the fastest that passes the parity check on this machine.

If a runtime is configured by name and cannot be used, the start fails; there is no fallback. With `auto`, every
rejected candidate is reported with the reason.
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
from serve.repository import verify_files
from serve.settings import ServeSettings

logger = logging.getLogger(__name__)

RUNTIME_VERSION: dict[str, Callable[[], str]] = {
    "onnxruntime": ort.runtime_version,
    "openvino": ov.runtime_version,
}
HEAD_BESIDE_TRITON = "onnxruntime-cpu"
# Rounding can hide a graph that is slightly wrong (a standard deviation off by 15 % can stay within the cosine required
# of bf16), so these engines are used only if the same files pass the parity check in full precision.
JUDGED_FIRST = {"openvino-bf16": "openvino-f32", "onnxruntime-tensorrt": "onnxruntime-cpu"}


@dataclass(frozen=True, kw_only=True)
class StartedEngine:
    """A loaded, checked and warmed-up engine, and why the others were rejected."""

    engine: Engine
    parity: ParityFigures
    rejected_engines: dict[str, str]  # label -> reason


def candidates(choice: str) -> tuple[list[str], dict[str, str]]:
    """Return the labels to try in order, and label -> reason of those this machine cannot run."""
    if choice != "auto":
        return [choice], {}
    rejected_engines: dict[str, str] = {}
    labels = []
    if ort.has_cuda_device():
        labels.append("onnxruntime-cuda")
    else:
        rejected_engines["onnxruntime-cuda"] = "no NVIDIA device with onnxruntime's CUDA provider"
    if ov.has_bf16():
        labels.append("openvino-bf16")
    else:
        rejected_engines["openvino-bf16"] = "the processor does not support bf16"
    return [*labels, "openvino-f32", "onnxruntime-cpu"], rejected_engines


async def start_engine(contract: ModelContract, repository: Path, settings: ServeSettings) -> StartedEngine:
    """Verify the files, then load, check and warm up the first candidate that passes the parity check.

    Raises:
        ContractError: a file differs from its sha256, or no candidate passes the parity check.
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
            logger.warning("engine %s rejected for %s@%s: %s", label, contract.name, contract.version, error)
            rejected_engines[label] = error.message
            last_error = error
        except BaseException:
            await _discard(engine)
            raise
    assert last_error is not None, "candidates() never returns an empty list"
    if len(labels) == 1:
        raise last_error
    raise ContractError(f"no engine can run {contract.name}@{contract.version}: {rejected_engines}")


async def _judge(contract: ModelContract, repository: Path, label: str, settings: ServeSettings) -> None:
    """Check the parity of the files on an engine that serves no requests; it is not loaded if the result is cached.

    Raises:
        ContractError: see `check_parity`.
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
    """Close a rejected candidate and unload what a Triton server loaded only for it."""
    if isinstance(engine, triton.TritonEngine) and engine.has_loaded:
        await engine.unload()
    await engine.close()


def _runtime_version(label: str) -> str | None:
    """Return the runtime part of the cache key; None for a Triton server, which may change without notice."""
    return None if label == triton.LABEL else RUNTIME_VERSION[label.partition("-")[0]]()
