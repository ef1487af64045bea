"""The OpenAPI document declares what the server does: every status, content type, header and schema."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve.api.inference_errors import is_inference_path
from serve.api.problems import STATUS
from serve.app import create_app
from serve.settings import ServeSettings
from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS

EXAMPLES = 15  # requests of each operation
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DOCUMENT: dict[str, Any] = create_app(ServeSettings()).openapi()
OPERATIONS = [
    pytest.param(path, method, id=f"{method.upper()} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
]
CHANGES = [
    item.values
    for item in OPERATIONS
    if item.values[1] != "get" and str(item.values[0]).startswith("/v1/vocabularies/") and item.values[1] != "put"
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own: generated requests may delete vocabularies."""
    with running_server(tmp_path_factory.mktemp("openapi"), SERVE_FEEDBACK__ENABLED="true") as running:
        yield running


def parameters(path: str, method: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in DOCUMENT["paths"][path][method].get("parameters", ())}


@pytest.mark.parametrize(("path", "method"), CHANGES)
def test_each_change_declares_its_precondition(path: str, method: str) -> None:
    assert parameters(path, method)["If-Match"]["required"]
    assert {"412", "428"} <= DOCUMENT["paths"][path][method]["responses"].keys()


def test_put_declares_both_preconditions() -> None:
    assert {"If-Match", "If-None-Match", "Prefer", "X-Author"} <= parameters("/v1/vocabularies/{name}", "put").keys()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_declared_with_its_content(path: str, method: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    for status, response in operation["responses"].items():
        assert "X-Request-Id" in response["headers"]
        kinds = response.get("content", {})
        if int(status) >= 400:
            assert int(status) in STATUS.values()
            assert list(kinds) == ["application/json" if is_inference_path(path) else "application/problem+json"]
        elif status not in ("204", "304"):
            assert kinds and all(content["schema"] for content in kinds.values()), status
    assert "422" in operation["responses"]  # a query that means nothing is refused by every route


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_body_and_required_parameter_has_an_example(path: str, method: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        is_files_only = set(content["schema"].get("properties", {})) == {"video"}
        if media_type not in ("video/*", "image/*") and not is_files_only:
            names = set(content["schema"].get("properties", {}))
            example = content["example"]
            assert isinstance(example, str) or set(example) <= names
            if media_type == "application/json":
                schema = {**content["schema"], "components": DOCUMENT["components"]}  # for its references
                jsonschema_rs.validate(schema, example)
    for parameter in operation.get("parameters", ()):
        if parameter.get("required") and parameter["schema"]["type"] == "string":
            assert parameter["schema"].get("examples") or parameter.get("examples"), parameter["name"]


def test_no_reference_leads_out_of_the_document() -> None:
    assert "#/$defs" not in json.dumps(DOCUMENT)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_generated_requests_get_declared_answers(server: RunningServer, path: str, method: str) -> None:
    schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    operation = schema[path][method.upper()]

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=PATIENCE_SECONDS)

    check()
