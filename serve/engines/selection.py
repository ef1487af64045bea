"""Engine selection: start the configured engine, or with `auto` the fastest that passes the parity check.

If an engine is configured by name and cannot be used, startup fails; there is no fallback. With `auto`, every rejected
candidate is reported with the reason.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serve.contract import ModelContract
from serve.engines import ort, ov, triton
from serve.engines.base import Engine
from serve.engines.embedded import EmbeddedEngine, make_prompt_head
from serve.engines.parity_check import ParityResult, check_parity, is_parity_cached
from serve.errors import ContractError
from serve.repository import verify_files
from serve.settings import ServeSettings

logger = logging.getLogger(__name__)

_RUNTIME_VERSIONS: dict[str, Callable[[], str]] = {
    "onnxruntime": ort.runtime_version,
    "openvino": ov.runtime_version,
}
PROMPT_HEAD_ENGINE = "onnxruntime-cpu"  # with Triton, the prompt head runs in this process
# The tolerance for reduced precision is wide enough to hide a slightly wrong graph, e.g. one whose standard deviations
# are off by 15 %. So these engines are used only if the same files pass the parity check in full precision.
FULL_PRECISION_ENGINES = {"openvino-bf16": "openvino-f32", "onnxruntime-tensorrt": "onnxruntime-cpu"}


@dataclass(frozen=True, kw_only=True)
class StartedEngine:
    """A loaded, checked and warmed-up engine, and the reasons why other engines were rejected."""

    engine: Engine
    parity: ParityResult
    rejected_engines: dict[str, str]  # engine name -> reason


def candidates(choice: str) -> tuple[list[str], dict[str, str]]:
    """Return the engine names to try, in order, and engine name -> reason for those this machine cannot run."""
    if choice != "auto":
        return [choice], {}
    rejected_engines: dict[str, str] = {}
    engine_names = []
    if ort.has_cuda_device():
        engine_names.append("onnxruntime-cuda")
    else:
        rejected_engines["onnxruntime-cuda"] = "no NVIDIA GPU is visible to onnxruntime's CUDA provider"
    if ov.has_bf16():
        engine_names.append("openvino-bf16")
    else:
        rejected_engines["openvino-bf16"] = "the processor does not support bf16"
    return [*engine_names, "openvino-f32", "onnxruntime-cpu"], rejected_engines


async def start_engine(contract: ModelContract, repository: Path, settings: ServeSettings) -> StartedEngine:
    """Verify the files, then load, check and warm up the first candidate that passes the parity check.

    Raises:
        ContractError: a file differs from its sha256, or no candidate passes the parity check.
    """
    await asyncio.to_thread(verify_files, contract, repository)  # hashing a large model takes seconds
    engine_names, rejected_engines = candidates(settings.engine)
    cache_dir = settings.cache_dir.expanduser()
    last_error: ContractError | None = None
    for engine_name in engine_names:
        engine = _make_engine(contract, repository, engine_name, settings)
        try:
            if engine_name in FULL_PRECISION_ENGINES:
                await _check_full_precision(contract, repository, FULL_PRECISION_ENGINES[engine_name], settings)
            await engine.start()
            runtime_version = _runtime_version(engine_name)
            parity = await check_parity(engine, repository, cache_dir=cache_dir, runtime_version=runtime_version)
            return StartedEngine(engine=engine, parity=parity, rejected_engines=rejected_engines)
        except ContractError as error:
            await _discard(engine)
            logger.warning("engine %s rejected for %s@%s: %s", engine_name, contract.name, contract.version, error)
            rejected_engines[engine_name] = error.message
            last_error = error
        except BaseException:
            await _discard(engine)
            raise
    assert last_error is not None, "candidates() never returns an empty list"
    if len(engine_names) == 1:
        raise last_error
    raise ContractError(f"no engine can run {contract.name}@{contract.version}: {rejected_engines}")


async def _check_full_precision(
    contract: ModelContract, repository: Path, engine_name: str, settings: ServeSettings
) -> None:
    """Run the parity check on a full-precision engine that will not serve requests; use a cached result if possible.

    Raises:
        ContractError: see `check_parity`.
    """
    engine = _make_engine(contract, repository, engine_name, settings)
    cache_dir, runtime_version = settings.cache_dir.expanduser(), _runtime_version(engine_name)
    try:
        if not is_parity_cached(engine, cache_dir=cache_dir, runtime_version=runtime_version):
            await engine.start()
        await check_parity(engine, repository, cache_dir=cache_dir, runtime_version=runtime_version)
    finally:
        await _discard(engine)


def _make_engine(contract: ModelContract, repository: Path, engine_name: str, settings: ServeSettings) -> Engine:
    cache_dir = settings.cache_dir.expanduser()
    options = {"batch": settings.batch, "threads": settings.threads, "cache_dir": cache_dir}
    if engine_name != triton.NAME:
        return EmbeddedEngine(contract, repository, engine_name=engine_name, **options)  # type: ignore[arg-type]
    head = make_prompt_head(contract, repository, engine_name=PROMPT_HEAD_ENGINE, **options)  # type: ignore[arg-type]
    return triton.TritonEngine(contract, repository, settings=settings.triton, batch=settings.batch, head=head)


async def _discard(engine: Engine) -> None:
    """Close an engine; if it caused a Triton server to load models, unload them."""
    if isinstance(engine, triton.TritonEngine) and engine.has_loaded:
        await engine.unload()
    await engine.close()


def _runtime_version(engine_name: str) -> str | None:
    """Return the runtime version for the parity cache; None for a Triton server, whose version may change anytime."""
    return None if engine_name == triton.NAME else _RUNTIME_VERSIONS[engine_name.partition("-")[0]]()
