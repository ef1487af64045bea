"""Loading and unloading single versions of a model on a Triton server while other versions serve requests.

A load request names all versions to keep, in the `version_policy` of the configuration; the server keeps them until the
next request. This needs a server in explicit model-control mode; in other modes servers load what they find on disk.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from serve.engines.triton_configuration import is_completed_from
from serve.engines.triton_server import TritonServer, reason_of
from serve.errors import ContractError, EngineFailure


async def load_version(
    server: TritonServer, model: str, version: int, *, configuration: Mapping[str, Any], seconds: float
) -> bool:
    """Load a version in addition to the loaded ones; return False if the server does not allow model control.

    `configuration` is the one on disk. A server reloads every version whose configuration changes, so if loaded
    versions run with another configuration, that one is used.

    Raises:
        ContractError: the server cannot load it; the loaded versions are not affected.
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
    """Unload a version and keep the others; does nothing if the server does not allow model control.

    Raises:
        ServiceError: the server does not answer, or cannot unload it.
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
    """Return the configuration that does not reload loaded versions: the one on disk if they run with it."""
    if not loaded:
        return configuration
    running = await server.configuration(model, loaded[0])
    return configuration if is_completed_from(running, configuration) else running


async def loaded_versions(server: TritonServer, model: str) -> list[int]:
    """Return the versions that are ready, smallest first.

    Raises:
        ServiceError: the server does not answer.
    """
    return sorted(version for version, state in (await server.states(model)).items() if state == "READY")


def _with_only(versions: Sequence[int], configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {**configuration, "version_policy": {"specific": {"versions": sorted(versions)}}}
