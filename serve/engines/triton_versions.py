"""Load and unload single versions of a model on a Triton server while other versions serve requests.

A load request lists all versions that the server should have loaded, in the `version_policy` of the configuration. This
requires explicit model-control mode; in other modes, servers load the models that they find on disk.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from serve.engines.triton_client import TritonClient, server_message
from serve.engines.triton_configuration import includes_configuration
from serve.errors import ContractError, EngineFailure


async def load_version(
    client: TritonClient, model: str, version: int, *, configuration: Mapping[str, Any], timeout_seconds: float
) -> bool:
    """Load a version in addition to the loaded ones; return False if the server does not allow model control.

    `configuration` is the one on disk. A server reloads every version whose configuration changes. So if the loaded
    versions run with another configuration, that one is used.

    Raises:
        ContractError: the server cannot load the version; the loaded versions are not affected.
        EngineUnavailable, DeadlineExceeded: the server does not respond.
    """
    loaded = await loaded_versions(client, model)
    if version in loaded:
        return True
    configuration = await _select_configuration(client, model, loaded, configuration)
    try:
        return await client.load(
            model, _set_versions(configuration, [*loaded, version]), timeout_seconds=timeout_seconds
        )
    except EngineFailure as error:
        raise ContractError(f"Triton cannot load {model} version {version}: {server_message(error)}") from error


async def unload_version(
    client: TritonClient, model: str, version: int, *, configuration: Mapping[str, Any], timeout_seconds: float
) -> None:
    """Unload a version and keep the others; do nothing if the server does not allow model control.

    Raises:
        ServiceError: the server does not respond, or it cannot unload the version.
    """
    loaded = await loaded_versions(client, model)
    remaining = [number for number in loaded if number != version]
    if version not in loaded:
        return
    if not remaining:
        await client.unload(model)
        return
    configuration = await _select_configuration(client, model, remaining, configuration)
    await client.load(model, _set_versions(configuration, remaining), timeout_seconds=timeout_seconds)


async def _select_configuration(
    client: TritonClient, model: str, loaded: Sequence[int], configuration: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the configuration on disk if loaded versions run with it, otherwise the running one, to avoid a reload."""
    if not loaded:
        return configuration
    running = await client.configuration(model, loaded[0])
    return configuration if includes_configuration(running, configuration) else running


async def loaded_versions(client: TritonClient, model: str) -> list[int]:
    """Return the versions that are ready, in ascending order.

    Raises:
        ServiceError: the server does not respond.
    """
    return sorted(version for version, state in (await client.states(model)).items() if state == "READY")


def _set_versions(configuration: Mapping[str, Any], versions: Sequence[int]) -> dict[str, Any]:
    return {**configuration, "version_policy": {"specific": {"versions": sorted(versions)}}}
