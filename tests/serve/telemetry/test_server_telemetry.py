"""Metrics, log lines and traces of a real server; a small collector receives the traces."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from serve.access.key_store import KeyStore
from serve.data_folder import database_path
from serve.scopes import Scope
from serve.store.database import Database, sqlite_url
from tests.running_server import RunningServer, running_server
from tests.waiting import eventually

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
JSON = "application/openmetrics-text; version=1.0.0"


class Collector:
    """An OTLP receiver that keeps the spans sent to it."""

    def __init__(self) -> None:
        self.spans: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in group.scope_spans:
                        collector.spans += [
                            {
                                "name": span.name,
                                "trace_id": span.trace_id.hex(),
                                "span_id": span.span_id.hex(),
                                "parent_id": span.parent_span_id.hex(),
                            }
                            for span in scope.spans
                        ]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The cache folder of a server whose store has one key, and the key."""
    folder = tmp_path_factory.mktemp("telemetry")
    database = Database(sqlite_url(database_path(folder / "data")))
    database.migrate()
    _, text = KeyStore(database).create("camera-7", [Scope.ADMIN], lifetime_seconds=None)
    database.close()
    return folder, text


@pytest.fixture(scope="module")
def server(key: tuple[Path, str], collector: Collector) -> Iterator[RunningServer]:
    with running_server(
        key[0], SERVE_LOG_FORMAT="json", SERVE_TELEMETRY__TRACES_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def http(server: RunningServer, key: tuple[Path, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, headers={"X-API-Key": key[1]}, timeout=300) as client:
        yield client


def log_lines(server: RunningServer, request_id: str) -> list[dict[str, object]]:
    """Return the parsed log lines of a request."""
    lines = [json.loads(line) for line in server.log if line.startswith("{")]
    return [line for line in lines if line.get("request_id") == request_id]


def test_a_classification_is_traced_under_the_parent_of_the_client(
    http: httpx.Client, server: RunningServer, collector: Collector, demo_clip: Path
) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "X-Request-Id": "traced-1"}
    response = http.post("/v1/classify", files={"video": demo_clip.read_bytes()}, headers=headers)
    assert response.status_code == 200, response.text
    expected = {"POST /v1/classify", "upload", "decode", "engine", "logits", "score"}
    assert eventually(lambda: expected <= {span["name"] for span in collector.spans if span["trace_id"] == TRACE_ID})
    spans = {span["name"]: span for span in collector.spans if span["trace_id"] == TRACE_ID}
    assert spans["POST /v1/classify"]["parent_id"] == PARENT_ID
    assert {spans[name]["parent_id"] for name in expected - {"POST /v1/classify"}} == {
        spans["POST /v1/classify"]["span_id"]
    }
    assert eventually(lambda: bool(log_lines(server, "traced-1")))
    (line,) = log_lines(server, "traced-1")
    assert line["trace_id"] == TRACE_ID
    assert line["key"] == "camera-7"
    assert (line["route"], line["status"]) == ("/v1/classify", 200)
    assert set(line["timing_ms"]) >= {"decode", "engine"}  # type: ignore[call-overload]
    families = {
        family.name: family for family in parse_openmetrics(http.get("/metrics", headers={"accept": JSON}).text)
    }
    exemplars = [
        sample.exemplar.labels["trace_id"]
        for sample in families["actserve_request_seconds"].samples
        if sample.exemplar is not None and sample.labels.get("route") == "/v1/classify"
    ]
    assert exemplars == [TRACE_ID]


@pytest.mark.parametrize(
    "header",
    ["", "00-" + "0" * 32 + f"-{PARENT_ID}-01", f"ff-{TRACE_ID}-{PARENT_ID}-01", f"00-{TRACE_ID}-{PARENT_ID}", "x"],
    ids=["empty", "zero", "version", "short", "text"],
)
def test_an_invalid_traceparent_starts_a_new_trace(http: httpx.Client, server: RunningServer, header: str) -> None:
    request_id = f"invalid-{abs(hash(header))}"
    assert http.get("/v1/limits", headers={"traceparent": header, "X-Request-Id": request_id}).status_code == 200
    assert eventually(lambda: bool(log_lines(server, request_id)))
    trace_id = log_lines(server, request_id)[0]["trace_id"]
    assert isinstance(trace_id, str)
    assert len(trace_id) == 32
    assert trace_id not in (TRACE_ID, "0" * 32)


def test_every_log_line_is_json(http: httpx.Client, server: RunningServer) -> None:
    assert http.get("/v1/limits").status_code == 200
    lines = [line for line in server.log if line.strip() and not line.startswith(("actserve is ready", "  "))]
    assert lines
    for line in lines:
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


def test_metrics_count_failures_by_problem_and_requests_by_status_class(http: httpx.Client, demo_clip: Path) -> None:
    broken = demo_clip.read_bytes()[:200]
    assert http.post("/v1/classify", files={"video": broken}).status_code == 422
    assert http.post("/v1/classify", files={"video": demo_clip.read_bytes()}).status_code == 200
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(http.get("/metrics").text)
        for sample in family.samples
    }
    names = {name for name, _ in samples}
    failures = {
        labels[0][1]: value for (name, labels), value in samples.items() if name == "actserve_decode_failures_total"
    }
    assert failures == {"undecodable-video": 1.0}
    for status_class in ("2xx", "4xx"):
        labels = (("route", "/v1/classify"), ("status_class", status_class))
        assert samples["actserve_request_seconds_count", labels] >= 1
    assert samples["actserve_ready", ()] == 1
    assert samples["actserve_batch_views_count", ()] >= 1
    assert samples["actserve_batch_views_sum", ()] >= samples["actserve_batch_views_count", ()]
    assert samples["actserve_vocabulary_encodings_total", (("outcome", "current"),)] >= 1
    assert samples["actserve_vocabulary_encoding_seconds_total", ()] > 0
    assert samples["actserve_child_processes", ()] >= 1
    assert samples["actserve_child_processes_resident_memory_bytes", ()] > 0
    assert samples["actserve_child_processes_cpu_seconds_total", ()] > 0
    assert {"actserve_build_info", "actserve_model_info", "process_resident_memory_bytes"} <= names
    assert {labels[0][1] for name, labels in samples if name == "actserve_jobs"} >= {"in_progress", "completed"}


def test_counters_and_units_follow_the_conventions(http: httpx.Client) -> None:
    families = list(parse_openmetrics(http.get("/metrics", headers={"accept": JSON}).text))
    assert len(families) == len({family.name for family in families})
    for family in families:
        assert family.documentation, family.name
        assert not family.name.endswith(("_ms", "_milliseconds", "_kb", "_mb")), family.name
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples), family.name
