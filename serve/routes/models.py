"""`/v1/models`: the versions on disk, and their activation under load."""

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from serve import errors
from serve.api.problems import problem_responses
from serve.contract import ModelContract, contract_document
from serve.json_models import Model, VersionNumber
from serve.models.activation import Staging
from serve.models.runtime import ModelRuntime
from serve.repository import contracts_on_disk
from serve.routes.bodies import json_body, read_json
from serve.routes.dependencies import ModelName, Prefer, ServiceDep
from serve.service import Service
from serve.vocabularies.label_warnings import VocabularyWarning

router = APIRouter(prefix="/v1", tags=["models"])
MAX_BODY_BYTES = 65_536
MAX_WARNINGS = 100  # of one answer


class ActivationInput(BaseModel):
    """The version to activate."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: VersionNumber | None = Field(None, description="A version on disk; by default the newest.")
    alias: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Alias to route to this model; requests without `model` use the alias `default`.",
    )


class RollbackInput(BaseModel):
    """A rollback has no options."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EngineParity(BaseModel):
    """How far this engine's features are from those of the export."""

    relative_difference: float
    lowest_cosine: float


class ModelVersion(BaseModel):
    """One version in the repository folder."""

    name: str
    version: str
    loaded: bool
    active: bool
    fault: str | None = Field(None, description="Why it cannot be served; absent if it can.")
    notice: str | None = None
    contract: dict[str, Any] | None = Field(None, description="The parts of `contract.json` that describe the model.")
    engine: str | None = Field(None, description="Of a loaded version, as are the members below.")
    engine_facts: dict[str, str] | None = None
    engine_parity: EngineParity | None = None
    rejected_engines: dict[str, str] | None = Field(None, description="Engine -> why it was not used.")


class ModelList(BaseModel):
    """Models, their versions and the names that lead to them."""

    default: str
    aliases: dict[str, str]
    previous: dict[str, str] = Field(description="Model -> version a rollback returns to.")
    staging: Staging | None = Field(description="The most recent activation.")
    models: list[ModelVersion]


class ActivationAnswer(BaseModel):
    """The answer to an activation or a rollback."""

    default: str
    active: list[str]
    is_done: bool
    staging: Staging | None
    warnings: list[VocabularyWarning] = Field(description="Labels an active model does not distinguish; the first 100.")
    num_warnings: int


READ_PROBLEMS = (errors.EngineUnavailable,)
ACTIVATION_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ActivationAnswer, "description": "The version is active."},
    202: {
        "model": ActivationAnswer,
        "description": "It is still being staged.",
        "headers": {"Location": {"description": "Where the progress is shown.", "schema": {"type": "string"}}},
    },
    **problem_responses(
        *READ_PROBLEMS,
        errors.UnknownModel,
        errors.ActivationUnderWay,
        errors.ModelRefused,
        errors.StoreUnavailable,
        errors.UnsupportedMedia,
        errors.UploadTooLarge,
    ),
}


@router.get(
    "/models", summary="List models and their versions", response_model=ModelList, response_model_exclude_unset=True,
    responses=problem_responses(*READ_PROBLEMS),
)  # fmt: skip
async def list_models(service: ServiceDep) -> dict[str, Any]:
    """Return every version of the repository folder; loaded ones with engine and parity figures."""
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
    "/models/{name}:activate", summary="Activate a version", response_model=None,
    responses=ACTIVATION_RESPONSES, openapi_extra=json_body(ActivationInput, required=False),
)  # fmt: skip
async def activate(request: Request, service: ServiceDep, name: ModelName, wait_seconds: Prefer) -> JSONResponse:
    """Stage a version beside the active one (contract, parity, warm-up, all vocabularies), then switch in one step.

    200 once it is active, 202 if that takes longer than `Prefer: wait=SECONDS`; `GET /v1/models` shows the progress.
    `warnings` name the labels that an active model does not distinguish; the first 100.
    """
    wanted = await _wanted(request, ActivationInput)
    is_done = await service.activation.activate(name, wanted.version, alias=wanted.alias, seconds=wait_seconds)
    return await _moved(service, is_done=is_done)


@router.post(
    "/models/{name}:rollback", summary="Return to the previous version", response_model=None,
    responses=ACTIVATION_RESPONSES, openapi_extra=json_body(RollbackInput, required=False),
)  # fmt: skip
async def roll_back(request: Request, service: ServiceDep, name: ModelName, wait_seconds: Prefer) -> JSONResponse:
    """Route a model's name to its previous version, or an alias to its previous model, in one step."""
    await _wanted(request, RollbackInput)
    is_done = await service.activation.roll_back(name, seconds=wait_seconds)
    return await _moved(service, is_done=is_done)


async def _wanted(request: Request, kind: type[Model]) -> Model:
    """Return the input in the body, or its defaults if there is no body."""
    is_empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    return kind() if is_empty else await read_json(request, kind, limit=MAX_BODY_BYTES)


async def _moved(service: Service, *, is_done: bool) -> JSONResponse:
    """Answer with the active versions and with warnings about labels that they do not distinguish."""
    staging = service.activation.staging
    warnings = await service.vocabularies.warnings(service.registry.active()) if is_done else []
    facts = {
        "default": service.registry.get(None).reference,
        "active": sorted(runtime.reference for runtime in service.registry.active()),
        "is_done": is_done,
        "staging": None if staging is None else asdict(staging),
        "warnings": [warning.model_dump() for warning in warnings[:MAX_WARNINGS]],
        "num_warnings": len(warnings),
    }
    return JSONResponse(
        facts, status_code=200 if is_done else 202, headers={} if is_done else {"Location": "/v1/models"}
    )


def _facts(
    name: str, version: int, contract: ModelContract | errors.ContractError, runtime: ModelRuntime | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": name, "version": str(version), "loaded": runtime is not None}
    if isinstance(contract, errors.ContractError):
        return {**facts, "fault": contract.message}
    document = contract_document(contract)
    kept = ("family", "embed_dim", "card", "sampling", "preprocess", "text", "scoring", "parity", "provenance")
    facts["notice"] = contract.notice
    facts["contract"] = {name: document[name] for name in kept}
    if runtime is not None:
        facts["engine"] = runtime.engine.name
        facts["engine_facts"] = dict(runtime.engine.details)
        facts["engine_parity"] = {
            "relative_difference": runtime.parity.relative_difference,
            "lowest_cosine": runtime.parity.lowest_cosine,
        }
        facts["rejected_engines"] = runtime.rejected_engines
    return facts
