"""`/v1/models`: the versions on disk, which of them answer, and changing that under load."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from serve.contract import ModelContract, contract_document
from serve.errors import ContractError
from serve.json_models import Model, VersionNumber
from serve.models.runtime import ModelRuntime
from serve.repository import contracts_on_disk
from serve.routes import preconditions
from serve.routes.bodies import described, read_json
from serve.service import Service

router = APIRouter(prefix="/v1", tags=["models"])
Name = Annotated[str, Path(max_length=200, description="A model.")]
MAX_BODY_BYTES = 65_536
MAX_WARNINGS = 100  # of one answer


class ActivationInput(BaseModel):
    """Which version is to answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: VersionNumber | None = Field(None, description="A version on disk; the newest without it.")
    alias: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="A name that is to mean this model from then on; `default` is what requests without `model` get.",
    )


class RollbackInput(BaseModel):
    """A rollback has no options: it returns to the version before."""

    model_config = ConfigDict(extra="forbid", strict=True)


@router.get("/models", summary="Models and their versions")
async def list_models(request: Request) -> dict[str, Any]:
    """Every version of the repository folder; loaded ones with engine and parity figures."""
    service: Service = request.app.state.service
    loaded = {runtime.reference: runtime for runtime in service.registry.loaded()}
    active = {runtime.reference for runtime in service.registry.active()}
    staging = service.activation.staging
    on_disk = await asyncio.to_thread(contracts_on_disk, service.settings.repository)
    return {
        "default": service.registry.get(None).reference,
        "aliases": dict(service.registry.routes.aliases),
        "previous": {name: str(version) for name, version in service.registry.routes.previous.items()},
        "staging": None if staging is None else asdict(staging),
        "models": [
            {
                **_facts(name, version, contract, loaded.get(f"{name}@{version}")),
                "active": f"{name}@{version}" in active,
            }
            for name, version, contract in on_disk
        ],
    }


@router.post(
    "/models/{name}:activate", summary="Have a version answer", response_model=None,
    openapi_extra=described(ActivationInput, required=False),
)  # fmt: skip
async def activate(request: Request, name: Name) -> JSONResponse:
    """Stages it beside the running one: contract, parity, warm-up, every vocabulary encoded; then swaps in one step.

    200 when it answers, 202 when that takes longer than `Prefer: wait=SECONDS`; `GET /v1/models` shows how far it is.
    `warnings` name the labels of vocabularies that a model which answers now does not tell apart, the first 100.
    """
    service: Service = request.app.state.service
    wanted = await _wanted(request, ActivationInput)
    seconds = preconditions.wait_seconds(request)
    is_done = await service.activation.activate(name, wanted.version, alias=wanted.alias, seconds=seconds)
    return await _moved(service, is_done=is_done)


@router.post(
    "/models/{name}:rollback", summary="Return to the version before", response_model=None,
    openapi_extra=described(RollbackInput, required=False),
)  # fmt: skip
async def roll_back(request: Request, name: Name) -> JSONResponse:
    """Of a model's name, or of an alias to the model before; that version is still loaded, so it is one step."""
    service: Service = request.app.state.service
    await _wanted(request, RollbackInput)
    is_done = await service.activation.roll_back(name, seconds=preconditions.wait_seconds(request))
    return await _moved(service, is_done=is_done)


async def _wanted(request: Request, kind: type[Model]) -> Model:
    """What the body asks for; nothing in particular without a body."""
    is_empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    return kind() if is_empty else await read_json(request, kind, limit=MAX_BODY_BYTES)


async def _moved(service: Service, *, is_done: bool) -> JSONResponse:
    """Where the names lead now; `warnings` are the labels that the models which answer do not tell apart."""
    staging = service.activation.staging
    warnings = await service.vocabularies.warnings(service.registry.active()) if is_done else []
    told = {
        "default": service.registry.get(None).reference,
        "active": sorted(runtime.reference for runtime in service.registry.active()),
        "is_done": is_done,
        "staging": None if staging is None else asdict(staging),
        "warnings": [warning.model_dump() for warning in warnings[:MAX_WARNINGS]],
        "num_warnings": len(warnings),
    }
    return JSONResponse(
        told, status_code=200 if is_done else 202, headers={} if is_done else {"Location": "/v1/models"}
    )


def _facts(
    name: str, version: int, contract: ModelContract | ContractError, runtime: ModelRuntime | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": name, "version": str(version), "loaded": runtime is not None}
    if isinstance(contract, ContractError):
        return {**facts, "fault": contract.message}
    document = contract_document(contract)
    kept = ("family", "embed_dim", "card", "sampling", "preprocess", "text", "scoring", "parity", "provenance")
    facts["notice"] = contract.notice
    facts["contract"] = {name: document[name] for name in kept}
    if runtime is not None:
        facts["engine"] = runtime.engine.label
        facts["engine_facts"] = dict(runtime.engine.facts)
        facts["engine_parity"] = {
            "relative_difference": runtime.parity.relative_difference,
            "lowest_cosine": runtime.parity.lowest_cosine,
        }
        facts["rejected_engines"] = runtime.rejected_engines
    return facts
