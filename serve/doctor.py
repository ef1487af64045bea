"""Checks of an installation for its operator; implements `actserve doctor`. They change nothing.

The engine check loads the default model as a server does, so it takes as long as a start.
"""

import asyncio
import importlib.util
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from serve.data_folder import database_path, open_database
from serve.engines import ort
from serve.errors import ActserveError, ContractError
from serve.extras import MissingExtra
from serve.files import format_size
from serve.models.runtime import load_runtime
from serve.repository import list_contracts, verify_files
from serve.settings import ServeSettings
from serve.store.database import NEWEST_REVISION, Database
from serve.version import VERSION

Status = Literal["ok", "warning", "failed", "skipped"]
MIN_FREE_BYTES = 2**30
MAX_CLOCK_SKEW_SECONDS = 5.0
MIN_TIME = 1_760_000_000.0  # October 2025; a clock before this release was never set


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one check."""

    name: str
    status: Status
    detail: str

    def document(self) -> dict[str, Any]:
        """Return the check for JSON."""
        return asdict(self)


def examine(settings: ServeSettings) -> list[Check]:
    """Run every check; a check that raises has failed."""
    checks: dict[str, Callable[[ServeSettings], tuple[Status, str]]] = {
        "settings": check_settings,
        "disk": check_disk,
        "store": check_store,
        "clock": check_clock,
        "models": check_models,
        "gpu": check_gpu,
        "triton": check_triton,
        "engine": check_engine,
    }
    return [_run(name, check, settings) for name, check in checks.items()]


def _run(name: str, check: Callable[[ServeSettings], tuple[Status, str]], settings: ServeSettings) -> Check:
    try:
        status, detail = check(settings)
    except (ActserveError, MissingExtra, OSError, sa.exc.SQLAlchemyError) as error:
        status, detail = "failed", str(error)
    return Check(name=name, status=status, detail=detail)


def check_settings(settings: ServeSettings) -> tuple[Status, str]:
    """Check that the extras of the settings are installed; the values were checked when they were loaded."""
    settings.require_extras()
    changed = sorted(
        name for name in type(settings).model_fields if getattr(settings, name) != _default_of(settings, name)
    )
    return "ok", f"actserve {VERSION}, Python {platform.python_version()}; changed: {', '.join(changed) or 'nothing'}"


def _default_of(settings: ServeSettings, name: str) -> Any:
    return type(settings).model_fields[name].get_default(call_default_factory=True, validated_data={})


def check_disk(settings: ServeSettings) -> tuple[Status, str]:
    """Check that the folders can be written and have free space."""
    folders = {
        "data_dir": settings.data_dir,
        "cache_dir": settings.cache_dir,
        "upload_dir": settings.upload_dir,
    }
    status: Status = "ok"
    details = []
    for name, folder in folders.items():
        place = _existing_parent(folder.expanduser())
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"0")
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(place).free
        if free < MIN_FREE_BYTES:
            status = "warning"
        details.append(f"{name} {format_size(free)} free")
    return status, ", ".join(details)


def _existing_parent(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def check_store(settings: ServeSettings) -> tuple[Status, str]:
    """Check that the database responds, is intact and has a schema that this release can use."""
    if not settings.store_url.get_secret_value() and not database_path(settings.data_dir.expanduser()).exists():
        return "ok", "no database yet; the first start creates it"
    database = open_database(settings)
    try:
        revision = database.read_revision()
        if revision is None:
            return "ok", "the database is empty; the first start creates its tables"
        if revision > NEWEST_REVISION:
            return "failed", f"schema {revision} is newer than this release, which knows {NEWEST_REVISION}"
        if not database.is_postgres and (fault := _sqlite_fault(database)) is not None:
            return "failed", f"the SQLite file is damaged: {fault}"
    finally:
        database.close()
    kind = "PostgreSQL" if database.is_postgres else "SQLite"
    if revision != NEWEST_REVISION:
        return (
            "warning",
            f"{kind}, schema {revision}; the next start migrates it to {NEWEST_REVISION}: back it up first",
        )
    return "ok", f"{kind}, schema {revision}"


def _sqlite_fault(database: Database) -> str | None:
    with database.reading() as connection:
        result = connection.execute(sa.text("pragma quick_check(1)")).scalar_one()
    return None if result == "ok" else str(result)


def check_clock(settings: ServeSettings) -> tuple[Status, str]:
    """Compare this machine's clock with the one of a PostgreSQL server, which orders leases and expiry."""
    if time.time() < MIN_TIME:
        return "failed", "the clock of this machine was never set"
    if not settings.store_url.get_secret_value():
        return "ok", "one machine; nothing to compare with"
    database = open_database(settings)
    try:
        if not database.is_postgres:
            return "ok", "one machine; nothing to compare with"
        with database.reading() as connection:
            before = time.time()
            remote = float(connection.execute(sa.text("select extract(epoch from clock_timestamp())")).scalar_one())
            after = time.time()
    finally:
        database.close()
    skew = max(before - remote, remote - after, 0.0)
    return "ok" if skew <= MAX_CLOCK_SKEW_SECONDS else "warning", f"differs from PostgreSQL by at least {skew:.1f} s"


def check_models(settings: ServeSettings) -> tuple[Status, str]:
    """Check the contract and the files of every version in the folder of models."""
    found, faults = [], []
    for name, version, contract in list_contracts(settings.repository):
        try:
            if isinstance(contract, ContractError):
                raise contract
            verify_files(contract, settings.repository)
        except ContractError as error:
            faults.append(f"{name}@{version}: {error}")
        else:
            found.append(f"{name}@{version}")
    if not found:
        return "failed", "; ".join(faults) or f"there is no model in {settings.repository}"
    detail = f"{', '.join(found)} in {settings.repository}"
    return ("warning", f"{detail}; {'; '.join(faults)}") if faults else ("ok", detail)


def check_gpu(settings: ServeSettings) -> tuple[Status, str]:
    """Check that a GPU that the settings need is usable."""
    needs_gpu = settings.engine in ("onnxruntime-cuda", "onnxruntime-tensorrt")
    if ort.has_cuda_device():
        return "ok", "onnxruntime can use an NVIDIA GPU"
    detail = "no NVIDIA GPU is visible to onnxruntime"
    return ("failed", f"{detail}, and SERVE_ENGINE={settings.engine} needs one") if needs_gpu else ("skipped", detail)


def check_triton(settings: ServeSettings) -> tuple[Status, str]:
    """Check that the Triton server of the settings responds."""
    if settings.engine != "triton":
        return "skipped", f"SERVE_ENGINE is {settings.engine}"
    if importlib.util.find_spec("tritonclient") is None:
        return "failed", "tritonclient is not installed: pip install 'actserve[triton]'"
    from serve.engines.triton_client import TritonClient

    async def version() -> str:
        client = TritonClient(settings.triton.url)
        try:
            return await client.server_version()
        finally:
            await client.close()

    return "ok", f"Triton {asyncio.run(version())} at {settings.triton.url}"


def check_engine(settings: ServeSettings) -> tuple[Status, str]:
    """Load the default model, check its parity and close it."""

    async def load() -> tuple[str, str, dict[str, str]]:
        runtime = await load_runtime(settings, settings.model)
        try:
            return runtime.reference, runtime.engine.name, runtime.rejected_engines
        finally:
            await runtime.close()

    reference, engine, rejected = asyncio.run(load())
    reasons = "".join(f"; not {name}: {reason}" for name, reason in rejected.items())
    return "ok", f"{reference} runs on {engine}{reasons}"
