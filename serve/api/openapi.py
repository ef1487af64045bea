"""The OpenAPI document: the document that FastAPI generates, with the parts that all routes have in common.

Routes declare their parameters with `serve.routes.dependencies` and their problems with
`serve.api.problems.problem_responses`.
"""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from serve.access.rules import OPEN_PATHS, SAFE_METHODS
from serve.api.body_examples import add_body_examples
from serve.api.inference_errors import InferenceError, is_inference_path
from serve.api.problems import Problem, problem_responses
from serve.errors import (
    ActserveError,
    CrossOrigin,
    DeadlineExceeded,
    EngineUnavailable,
    Forbidden,
    MisdirectedRequest,
    Overloaded,
    ProviderUnavailable,
    QuotaExceeded,
    ServerStopping,
    SlowBody,
    StoreUnavailable,
    Unauthenticated,
)
from serve.scopes import ROUTE_SCOPES

INFERENCE_ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}}
REQUEST_ID = {"description": "Id of the request; also in the server log.", "schema": {"type": "string"}}
RETRY_AFTER = {"description": "Seconds to wait before a retry.", "schema": {"type": "integer"}}
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key; `actserve keys create` makes one."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}


def install(app: FastAPI) -> None:
    """Make the application complete its OpenAPI document when it is first requested."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(generate())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # documented extension point of FastAPI


def _complete(document: dict[str, Any]) -> None:
    """Add the schema of problems, the security schemes and the headers of all responses."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"], schemas["InferenceError"] = Problem.model_json_schema(), InferenceError.model_json_schema()
    components["securitySchemes"] = SECURITY_SCHEMES
    for operations in document["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                _move_models(content["schema"], components["schemas"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            add_body_examples(path, method, operation)
            _add_rejections(
                operation["responses"], path=path, method=method.upper(), has_body="requestBody" in operation
            )
            scope = ROUTE_SCOPES[method.upper(), path]
            if scope is not None:
                operation["security"] = [{name: [scope]} for name in SECURITY_SCHEMES]
            if is_inference_path(path):
                _set_error_content(operation["responses"])
            for status, response in operation["responses"].items():
                headers = response.setdefault("headers", {})
                headers["X-Request-Id"] = REQUEST_ID
                if status in ("429", "503"):
                    headers["Retry-After"] = RETRY_AFTER


def _set_error_content(responses: dict[str, Any]) -> None:
    """Declare the errors of the Open Inference Protocol in place of problems."""
    for status, response in responses.items():
        if int(status) >= HTTPStatus.BAD_REQUEST:
            response["content"] = INFERENCE_ERROR_CONTENT


def _move_models(schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Replace the models inside a request body with references, because generators name one class per schema."""

    def move(value: Any) -> Any:
        if isinstance(value, list):
            return [move(item) for item in value]
        if not isinstance(value, dict):
            return value
        moved = {key: move(item) for key, item in value.items()}
        if moved.get("type") != "object" or "properties" not in moved:
            return moved
        name = str(moved["title"])
        known = schemas.setdefault(name, moved)
        if known["properties"].keys() != moved["properties"].keys() or known.get("required") != moved.get("required"):
            name = f"{name}Request"
            schemas.setdefault(name, moved)
        return {"$ref": f"#/components/schemas/{name}"}

    schema["properties"] = {name: move(item) for name, item in schema.get("properties", {}).items()}
    if not schema["properties"]:
        del schema["properties"]


def _add_rejections(responses: dict[str, Any], *, path: str, method: str, has_body: bool) -> None:
    """Declare the errors with which the parts before a route may reject a request to it."""
    errors: list[type[ActserveError]] = []
    if path not in OPEN_PATHS:
        errors.append(MisdirectedRequest)
    if method not in SAFE_METHODS:
        errors.append(CrossOrigin)
    if ROUTE_SCOPES[method, path] is not None:
        errors += (Unauthenticated, Forbidden, QuotaExceeded, EngineUnavailable, StoreUnavailable, ProviderUnavailable)
    if path not in OPEN_PATHS:
        errors += (ServerStopping, DeadlineExceeded)
    if has_body:
        errors += (SlowBody, Overloaded)
    for status, response in problem_responses(*errors).items():
        declared = responses.setdefault(str(status), response)
        if declared is not response and response["description"] not in declared["description"]:
            declared["description"] += f"; {response['description']}"
