"""`/v2`: the Open Inference Protocol v2, for KServe and Triton clients; see `serve.inference_protocol`."""

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from serve import errors
from serve.api import problems
from serve.api.options import ClassifyOptions, ScoreOptions, validate_options
from serve.embeddings import VideoEmbeddingOptions
from serve.errors import EngineUnavailable, InvalidOption
from serve.inference_protocol import messages
from serve.inference_protocol.bodies import JSON_LENGTH_HEADER, BodyReader, read_request
from serve.inference_protocol.inputs import Input, InputReceiver
from serve.inference_protocol.messages import InferRequest, Parameter
from serve.inference_protocol.models import VIDEO, ProtocolModel, find_model
from serve.inference_protocol.outputs import (
    BINARY_OUTPUT,
    ComputedOutputs,
    OutputSelection,
    feature_outputs,
    label_outputs,
)
from serve.routes.bodies import SCORING_PROBLEMS, inline_schema
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import ServiceDep
from serve.routes.slots import TEXTS_PER_VIEW, check_room, run_in_slot
from serve.service import Service
from serve.version import VERSION

router = APIRouter(prefix="/v2", tags=["inference protocol"])
VIEW_OPTIONS = ("num_clips", "num_crops")  # of a video; an input of views has its own number
SCORE_OPTIONS = tuple(name for name in ScoreOptions.model_fields if name != "model")
EXTENSIONS = ["binary_tensor_data"]
NO_MODEL = problems.problem_responses(errors.UnknownModel, errors.EngineUnavailable)
INFER_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": JSON_LENGTH_HEADER,
            "in": "header",
            "required": False,
            "schema": {"type": "integer", "minimum": 1},
            "description": "Size of the JSON part in bytes, if binary data follows it.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": inline_schema(InferRequest)},
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": f"The JSON part, of the size in `{JSON_LENGTH_HEADER}`, then the binary data.",
                }
            },
        },
    },
}
INFER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": messages.InferResponse,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            JSON_LENGTH_HEADER: {
                "description": "Size of the JSON part in bytes, if binary data follows it.",
                "required": False,
                "schema": {"type": "integer"},
            }
        },
    },
    **problems.problem_responses(*SCORING_PROBLEMS),
}
Name = Annotated[str, Path(max_length=200, description="`NAME`, `NAME_video` or `NAME_text`.", examples=["demo"])]
Version = Annotated[str, Path(max_length=20, description="A loaded version.", examples=["1"])]


@router.get("", summary="Server metadata", responses=problems.problem_responses())
async def server_metadata() -> messages.ServerMetadata:
    """Return name, version and supported extensions of the server."""
    return messages.ServerMetadata(name="actserve", version=VERSION, extensions=EXTENSIONS)


@router.get("/health/live", summary="Liveness", responses=problems.problem_responses())
async def live() -> messages.ServerLive:
    """Return 200 while the process is running."""
    return messages.ServerLive(live=True)


@router.get("/health/ready", summary="Readiness", responses=problems.problem_responses(errors.EngineUnavailable))
async def ready(service: ServiceDep) -> messages.ServerReady:
    """Return 200 while the server serves requests, and 503 otherwise; see `/readyz`."""
    _check_ready(service.not_ready_reason)
    return messages.ServerReady(ready=True)


@router.get("/models/{name}", summary="Model metadata", responses=NO_MODEL)
async def model_metadata(service: ServiceDep, name: Name) -> messages.ModelMetadata:
    """Return the inputs and outputs of a model, and its loaded versions."""
    return find_model(service.registry, name, None).metadata(service.registry)


@router.get("/models/{name}/versions/{version}", summary="Metadata of a version", responses=NO_MODEL)
async def version_metadata(service: ServiceDep, name: Name, version: Version) -> messages.ModelMetadata:
    """Return the inputs and outputs of a version, and the loaded versions of its model."""
    return find_model(service.registry, name, version).metadata(service.registry)


@router.get("/models/{name}/ready", summary="Readiness of a model", responses=NO_MODEL)
async def model_ready(service: ServiceDep, name: Name) -> messages.ModelReady:
    """Return 200 while the model serves requests, and 503 otherwise."""
    return _model_ready(service, find_model(service.registry, name, None))


@router.get("/models/{name}/versions/{version}/ready", summary="Readiness of a version", responses=NO_MODEL)
async def version_ready(service: ServiceDep, name: Name, version: Version) -> messages.ModelReady:
    """Return 200 while the version serves requests, and 503 otherwise."""
    return _model_ready(service, find_model(service.registry, name, version))


@router.post(
    "/models/{name}/infer", summary="Inference", response_model=None,
    responses=INFER_RESPONSES, openapi_extra=INFER_BODY,
)  # fmt: skip
async def infer(request: Request, service: ServiceDep, name: Name) -> Response:
    """Compute the outputs of a model for one input."""
    return await _infer(request, service, find_model(service.registry, name, None))


@router.post(
    "/models/{name}/versions/{version}/infer", summary="Inference with a version", response_model=None,
    responses=INFER_RESPONSES, openapi_extra=INFER_BODY,
)  # fmt: skip
async def infer_with_version(request: Request, service: ServiceDep, name: Name, version: Version) -> Response:
    """Compute the outputs of a version for one input."""
    return await _infer(request, service, find_model(service.registry, name, version))


def _check_ready(reason: str | None) -> None:
    if reason is not None:
        raise EngineUnavailable(reason)


def _model_ready(service: Service, model: ProtocolModel) -> messages.ModelReady:
    _check_ready(service.not_ready_reason)
    _check_ready(model.runtime.engine.fault)
    return messages.ModelReady(name=model.name, ready=True)


async def _infer(request: Request, service: Service, model: ProtocolModel) -> Response:
    limits = service.settings.limits
    _check_ready(None if service.readiness.is_ready else service.not_ready_reason)
    check_room(request, service)
    reader = BodyReader(request)
    async with request_deadline(request, limits.request_deadline_seconds) as deadline:
        message = await read_request(request, reader, parsing=service.large_changes)
        if len(message.inputs) != 1:
            raise InvalidOption(f"a request must have exactly one input, got {len(message.inputs)}")
        found = message.inputs[0]
        model.input(found.name).check(found)
        selection = OutputSelection(model, message)
        computation = _Computation(service, model, message, deadline=deadline)
        receiver = InputReceiver(request=request, reader=reader, folder=service.uploads, limits=limits)
        async with receiver.receive(found) as data:
            computed = await run_in_slot(
                request,
                service,
                lambda: computation.run(data),
                views=computation.num_views(data),
                deadline=deadline,
            )
    return selection.render(computed)


class _Computation:
    """The computation that one request asks for."""

    def __init__(self, service: Service, model: ProtocolModel, message: InferRequest, *, deadline: float) -> None:
        """Check the options among the parameters of the request.

        Raises:
            InvalidOption: an option is unknown or not valid.
        """
        self._service, self._model, self._deadline = service, model, deadline
        self._reference = model.runtime.reference
        options = {name: value for name, value in message.parameters.items() if name != BINARY_OUTPUT}
        _check_names(model, options, input_name=message.inputs[0].name)
        scoring = {name: value for name, value in options.items() if name not in VIEW_OPTIONS}
        views = {name: value for name, value in options.items() if name in VIEW_OPTIONS}
        self._view_options = validate_options(VideoEmbeddingOptions, {**views, "model": self._reference})
        self._options = validate_options(ClassifyOptions, {**scoring, **views, "model": self._reference})

    def num_views(self, data: Input) -> int:
        """Return the number of views that the computation costs."""
        if isinstance(data, tuple):
            return 1 + len(data) // TEXTS_PER_VIEW
        return self._options.num_clips * self._options.num_crops if isinstance(data, FilePath) else len(data)

    async def run(self, data: Input) -> ComputedOutputs:
        """Compute the outputs for an input.

        Raises:
            RequestError, ServiceError: the input or an option is not valid, or a component is not available.
        """
        pipeline, embedder = self._service.pipeline, self._service.embedder
        if isinstance(data, tuple):
            return feature_outputs(self._model, await embedder.encode_texts(self._reference, data))
        if self._model.kind == "classification":
            if isinstance(data, FilePath):
                return label_outputs(await pipeline.classify(data, self._options, deadline=self._deadline))
            return label_outputs(await pipeline.classify_views(data, self._options, deadline=self._deadline))
        if isinstance(data, FilePath):
            features = await embedder.encode_video(data, self._view_options, deadline=self._deadline)
        else:
            features = await embedder.encode_views(self._reference, data, deadline=self._deadline)
        return feature_outputs(self._model, features)


def _check_names(model: ProtocolModel, options: Mapping[str, Parameter], *, input_name: str) -> None:
    """Check that the computation uses all options.

    Raises:
        InvalidOption: it does not; the message lists the options that it uses.
    """
    allowed = (
        *(SCORE_OPTIONS if model.kind == "classification" else ()),
        *(VIEW_OPTIONS if input_name == VIDEO else ()),
        BINARY_OUTPUT,
    )
    unknown = [name for name in options if name not in allowed]
    if unknown:
        raise InvalidOption(
            f"model `{model.name}` with the input `{input_name}` has no parameter `{unknown[0][:80]}`; allowed: "
            f"{', '.join(allowed)}",
            allowed=list(allowed),
        )
