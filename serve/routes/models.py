"""`/v1/models`: the model versions on disk, and their activation while the server runs."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from serve import errors
from serve.api.problems import problem_responses
from serve.contract import ModelContract, contract_document
from serve.json_models import BodyVersionNumber, Model
from serve.models.activation import Staging
from serve.models.runtime import ModelRuntime
from serve.repository import list_contracts
from serve.routes.bodies import json_body, read_json
from serve.routes.dependencies import ModelName, Prefer, ServiceDep
from serve.service import Service
from serve.vocabularies.label_warnings import VocabularyWarning

router = APIRouter(prefix="/v1", tags=["models"])
MAX_BODY_BYTES = 65_536
MAX_WARNINGS = 100  # in one response


class ActivationInput(BaseModel):
    """Request to activate a version."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: BodyVersionNumber | None = Field(None, description="A version on disk; by default the newest.")
    alias: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Alias to route to this model; requests without `model` use the alias `default`.",
    )


class RollbackInput(BaseModel):
    """Request to roll back; it has no options."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EngineParity(BaseModel):
    """Difference between the features of the engine and the features recorded at export."""

    relative_difference: float
    lowest_cosine: float


class ModelVersion(BaseModel):
    """One version in the repository folder."""

    name: str
    version: str
    loaded: bool
    active: bool
    fault: str | None = Field(None, description="Reason why the version cannot be served; absent if it can.")
    notice: str | None = None
    contract: dict[str, Any] | None = Field(None, description="The parts of `contract.json` that describe the model.")
    engine: str | None = Field(
        None, description="Engine of a loaded version; this and the following fields are absent otherwise."
    )
    engine_facts: dict[str, str] | None = None
    engine_parity: EngineParity | None = None
    rejected_engines: dict[str, str] | None = Field(None, description="Reason why each rejected engine was not used.")


class ModelList(BaseModel):
    """Models, their versions and aliases."""

    default: str
    aliases: dict[str, str]
    previous: dict[str, str] = Field(description="Version to which a rollback of each model returns.")
    staging: Staging | None = Field(description="The most recent activation.")
    models: list[ModelVersion]


class ActivationResponse(BaseModel):
    """Response to an activation or a rollback."""

    default: str
    active: list[str]
    is_done: bool
    staging: Staging | None
    warnings: list[VocabularyWarning] = Field(
        description="Labels that an active model does not distinguish; at most 100."
    )
    num_warnings: int


READ_PROBLEMS = (errors.EngineUnavailable,)
ETAG = {"ETag": {"description": "Tag of the active models, for If-Match.", "schema": {"type": "string"}}}
RoutesMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="ETag of the active models as returned by `GET /v1/models`; if it is stale, the response is 412.",
    ),
]
ACTIVATION_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": ActivationResponse, "description": "The version is active.", "headers": ETAG},
    202: {
        "model": ActivationResponse,
        "description": "The version is still being staged.",
        "headers": {
            **ETAG,
            "Location": {"description": "URL that shows the progress.", "schema": {"type": "string"}},
        },
    },
    **problem_responses(
        *READ_PROBLEMS,
        errors.UnknownModel,
        errors.ActivationUnderWay,
        errors.ModelRefused,
        errors.StaleVersion,
        errors.StoreUnavailable,
        errors.UnsupportedMedia,
        errors.UploadTooLarge,
    ),
}


@router.get(
    "/models", summary="List models and their versions", response_model=ModelList, response_model_exclude_unset=True,
    responses={200: {"headers": ETAG}, **problem_responses(*READ_PROBLEMS)},
)  # fmt: skip
async def list_models(service: ServiceDep, response: Response) -> dict[str, Any]:
    """Return every version in the repository folder; loaded versions include engine and parity."""
    response.headers["ETag"] = service.registry.routes.etag
    loaded = {runtime.reference: runtime for runtime in service.registry.loaded()}
    active = {runtime.reference for runtime in service.registry.active()}
    staging = service.activation.staging
    on_disk = await asyncio.to_thread(list_contracts, service.settings.repository)
    return {
        "default": service.registry.get(None).reference,
        "aliases": dict(service.registry.routes.aliases),
        "previous": {name: str(version) for name, version in service.registry.routes.previous.items()},
        "staging": None if staging is None else asdict(staging),
        "models": [
            {
                **_describe_version(name, version, contract, loaded.get(f"{name}@{version}")),
                "active": f"{name}@{version}" in active,
            }
            for name, version, contract in on_disk
        ],
    }


@router.post(
    "/models/{name}:activate", summary="Activate a version", response_model=None,
    responses=ACTIVATION_RESPONSES, openapi_extra=json_body(ActivationInput, required=False),
)  # fmt: skip
async def activate(
    request: Request, service: ServiceDep, name: ModelName, wait_seconds: Prefer, if_match: RoutesMatch = None
) -> JSONResponse:
    """Stage a version (contract, parity, warm-up, all vocabularies) while the active one serves, then switch at once.

    The response is 200 once the version is active, or 202 if that takes longer than `Prefer: wait=SECONDS`;
    `GET /v1/models` shows the progress. `warnings` lists at most 100 labels that an active model does not distinguish.
    """
    activation = await _read_input(request, ActivationInput)
    is_done = await service.activation.activate(
        name, activation.version, alias=activation.alias, seconds=wait_seconds, if_match=if_match
    )
    return await _make_response(service, is_done=is_done)


@router.post(
    "/models/{name}:rollback", summary="Return to the previous version", response_model=None,
    responses=ACTIVATION_RESPONSES, openapi_extra=json_body(RollbackInput, required=False),
)  # fmt: skip
async def roll_back(
    request: Request, service: ServiceDep, name: ModelName, wait_seconds: Prefer, if_match: RoutesMatch = None
) -> JSONResponse:
    """Route a model's name to its previous version, or an alias to its previous model, atomically."""
    await _read_input(request, RollbackInput)
    is_done = await service.activation.roll_back(name, seconds=wait_seconds, if_match=if_match)
    return await _make_response(service, is_done=is_done)


async def _read_input(request: Request, model: type[Model]) -> Model:
    """Read a model from the JSON body; return its defaults if there is no body."""
    is_empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    return model() if is_empty else await read_json(request, model, limit=MAX_BODY_BYTES)


async def _make_response(service: Service, *, is_done: bool) -> JSONResponse:
    """Return the active versions and warnings about labels that they do not distinguish."""
    staging = service.activation.staging
    warnings = await service.vocabularies.warnings(service.registry.active()) if is_done else []
    body = {
        "default": service.registry.get(None).reference,
        "active": sorted(runtime.reference for runtime in service.registry.active()),
        "is_done": is_done,
        "staging": None if staging is None else asdict(staging),
        "warnings": [warning.model_dump() for warning in warnings[:MAX_WARNINGS]],
        "num_warnings": len(warnings),
    }
    headers = {"ETag": service.registry.routes.etag, **({} if is_done else {"Location": "/v1/models"})}
    return JSONResponse(body, status_code=200 if is_done else 202, headers=headers)


def _describe_version(
    name: str, version: int, contract: ModelContract | errors.ContractError, runtime: ModelRuntime | None
) -> dict[str, Any]:
    description: dict[str, Any] = {"name": name, "version": str(version), "loaded": runtime is not None}
    if isinstance(contract, errors.ContractError):
        return {**description, "fault": contract.message}
    document = contract_document(contract)
    fields = ("family", "embed_dim", "card", "sampling", "preprocess", "text", "scoring", "parity", "provenance")
    description["notice"] = contract.notice
    description["contract"] = {field: document[field] for field in fields}
    if runtime is not None:
        description["engine"] = runtime.engine.name
        description["engine_facts"] = dict(runtime.engine.details)
        description["engine_parity"] = {
            "relative_difference": runtime.parity.relative_difference,
            "lowest_cosine": runtime.parity.lowest_cosine,
        }
        description["rejected_engines"] = runtime.rejected_engines
    return description
