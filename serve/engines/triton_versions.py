"""Versions of a model beside each other on a Triton server: loaded, and let go while the others serve.

The server is told which versions it is to have, in place of its configuration's `version_policy`; it keeps that choice
until it is told otherwise. Servers in explicit model-control mode take such orders, others load what they find.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from serve.engines.triton_configuration import is_completed_from
from serve.engines.triton_server import TritonServer, reason_of
from serve.errors import ContractError, EngineFailure


async def load_version(
    server: TritonServer, model: str, version: int, *, configuration: Mapping[str, Any], seconds: float
) -> bool:
    """Have a version loaded beside those that are; False where the server takes no orders.

    `configuration` is the one on disk. Loaded versions go on undisturbed where they run under it, since a server loads
    every version anew whose configuration changes; where they run under another, that one is kept.

    Raises:
        ContractError: the server cannot load it; the others go on.
        EngineUnavailable, DeadlineExceeded: the server does not answer.
    """
    loaded = await loaded_versions(server, model)
    if version in loaded:
        return True
    kept = await _kept_configuration(server, model, loaded, configuration)
    try:
        return await server.load(model, _with_only([*loaded, version], kept), seconds=seconds)
    except EngineFailure as error:
        raise ContractError(f"Triton cannot load {model} version {version}: {reason_of(error)}") from error


async def drop_version(
    server: TritonServer, model: str, version: int, *, configuration: Mapping[str, Any], seconds: float
) -> None:
    """Have a version let go while the others serve; nothing happens where the server takes no orders.

    Raises:
        ServiceError: the server does not answer, or cannot.
    """
    loaded = await loaded_versions(server, model)
    kept = [number for number in loaded if number != version]
    if version not in loaded:
        return
    if not kept:
        await server.unload(model)
        return
    configuration = await _kept_configuration(server, model, kept, configuration)
    await server.load(model, _with_only(kept, configuration), seconds=seconds)


async def _kept_configuration(
    server: TritonServer, model: str, loaded: Sequence[int], configuration: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the configuration that leaves loaded versions as they are: the one on disk, if they run under it."""
    if not loaded:
        return configuration
    running = await server.configuration(model, loaded[0])
    return configuration if is_completed_from(running, configuration) else running


async def loaded_versions(server: TritonServer, model: str) -> list[int]:
    """Versions that are ready, smallest first.

    Raises:
        ServiceError: the server does not answer.
    """
    return sorted(version for version, state in (await server.states(model)).items() if state == "READY")


def _with_only(versions: Sequence[int], configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {**configuration, "version_policy": {"specific": {"versions": sorted(versions)}}}
