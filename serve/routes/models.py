"""`GET /v1/models`: the versions on disk, which of them are loaded, and what they know."""

from typing import Any

from fastapi import APIRouter, Request

from serve.contract import ModelContract, contract_document
from serve.errors import ContractError
from serve.models.runtime import ModelRuntime
from serve.service import Service

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", summary="Models and their versions")
async def list_models(request: Request) -> dict[str, Any]:
    """Every version of the repository folder; loaded ones with engine and parity figures."""
    service: Service = request.app.state.service
    loaded = {runtime.reference: runtime for runtime in service.registry.active()}
    default = service.registry.get(None).reference
    return {
        "default": default,
        "models": [
            _facts(name, version, contract, loaded.get(f"{name}@{version}"))
            for name, version, contract in service.registry.on_disk()
        ],
    }


def _facts(
    name: str, version: int, contract: ModelContract | ContractError, runtime: ModelRuntime | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": name, "version": str(version), "loaded": runtime is not None}
    if isinstance(contract, ContractError):
        return {**facts, "fault": contract.message}
    document = contract_document(contract)
    kept = ("family", "embed_dim", "card", "sampling", "preprocess", "text", "scoring", "parity", "provenance")
    facts["contract"] = {name: document[name] for name in kept}
    if runtime is not None:
        facts["engine"] = runtime.engine.label
        facts["engine_parity"] = {
            "relative_difference": runtime.parity.relative_difference,
            "lowest_cosine": runtime.parity.lowest_cosine,
        }
        facts["engines_passed_over"] = runtime.passed_over
    return facts
