"""Requests that pages of other origins make browsers send, against the application."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.http_settings import HttpSettings
from serve.settings import ServeSettings
from tests.running_server import running_server
from tests.waiting import PATIENCE_SECONDS

APP_ORIGIN = "https://app.example.com"


@pytest.fixture
def client() -> Iterator[TestClient]:
    """An application that is never started: refusals need no model."""
    app = create_app(ServeSettings(http=HttpSettings(cors_origins=APP_ORIGIN)))
    yield TestClient(app, base_url="http://localhost:8080")


def test_another_host_is_refused_everywhere_but_at_the_probes(client: TestClient) -> None:
    for path in ("/", "/docs", "/openapi.json", "/v1/limits", "/metrics", "/web/app.js", "/nothing"):
        refused = client.get(path, headers={"host": "evil.example"})
        assert refused.status_code == 421, path
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "/problems/misdirected-request"
        assert "evil.example" in refused.json()["detail"] and refused.headers["x-request-id"]
    assert client.get("/healthz", headers={"host": "10.1.2.3:8080"}).status_code == 200


def test_a_change_from_another_page_is_refused_before_anything_is_read(client: TestClient) -> None:
    for method, path in (
        ("POST", "/v1/models/demo:activate"),
        ("POST", "/v1/feedback"),
        ("PUT", "/v1/vocabularies/demo"),
        ("DELETE", "/v1/vocabularies/demo"),
        ("POST", "/v1/classify"),
    ):
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            refused = client.request(method, path, headers=headers)
            assert refused.status_code == 403, (method, path, headers)
            assert refused.json()["type"] == "/problems/cross-origin"


def test_an_allowed_origin_may_send_and_read(client: TestClient) -> None:
    preflight = client.options(
        "/v1/classify",
        headers={"origin": APP_ORIGIN, "access-control-request-method": "POST", "sec-fetch-site": "cross-site"},
    )
    assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == APP_ORIGIN
    answered = client.get("/healthz", headers={"origin": APP_ORIGIN})
    assert answered.headers["access-control-allow-origin"] == APP_ORIGIN
    other = client.get("/healthz", headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_every_response_carries_the_security_headers(client: TestClient) -> None:
    for path in (
        "/",
        "/docs",
        "/openapi.json",
        "/healthz",
        "/web/app.js",
        "/nothing",
        "/static-offline-docs/favicon.png",
    ):
        response = client.get(path)
        assert response.headers["x-content-type-options"] == "nosniff", path
        assert response.headers["x-frame-options"] == "DENY"
        policy = response.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert client.get("/v1/limits", headers={"host": "evil.example"}).headers["x-content-type-options"] == "nosniff"


def test_the_inline_script_of_the_documentation_is_allowed_by_its_hash(client: TestClient) -> None:
    page = client.get("/docs")
    assert len(re.findall("<script>", page.text)) == 1
    assert len(re.findall("'sha256-[A-Za-z0-9+/]{43}='", page.headers["content-security-policy"])) == 1


def test_under_a_path_of_a_proxy_the_page_and_the_api_are_reached(tmp_path: Path) -> None:
    with (
        running_server(tmp_path, SERVE_HTTP__ROOT_PATH="/actions") as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http,
    ):
        # the proxy takes the path away, so requests arrive without it
        assert http.get("/healthz", headers={"host": "10.1.2.3"}).status_code == 200
        assert 'href="web/style.css"' in http.get("/").text and http.get("/web/app.js").status_code == 200
        assert "url: '/actions/openapi.json'" in http.get("/docs").text
        assert http.get("/openapi.json").json()["servers"] == [{"url": "/actions"}]
        created = http.put(
            "/v1/vocabularies/few",
            json={"labels": ["walking", "waving"]},
            headers={"If-None-Match": "*", "Prefer": "wait=0"},
        )
        assert created.headers.get("location", "/actions/v1/vocabularies/few") == "/actions/v1/vocabularies/few"
        moved = http.post("/v1/models/demo:activate", headers={"Prefer": "wait=0"})
        assert moved.status_code in (200, 202)
        assert moved.headers.get("location", "/actions/v1/models") == "/actions/v1/models"
