"""`/v1/jobs` through a real server: uploads, folders, URLs, progress, results, refusals, webhooks."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from standardwebhooks import Webhook

from serve.jobs.states import FINISHED
from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS, eventually

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMgbG9uZyE="
LABELS = ["a person in red walking to the left", "a person in blue clapping"]


class Receiver(BaseHTTPRequestHandler):
    """A receiver of webhooks that fails the first time, and a host of videos."""

    videos: ClassVar[dict[str, bytes]] = {}
    received: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((dict(self.headers.items()), body))
        self.send_response(500 if len(self.received) == 1 else 204)
        self.end_headers()

    def do_GET(self) -> None:
        body = self.videos.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("content-length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, demo_clip: Path) -> Path:
    """A folder of the server: two videos, one of them below, a text, a hidden video and a link out of it."""
    root = tmp_path_factory.mktemp("server")
    allowed = root / "allowed" / "archive"
    (allowed / "below").mkdir(parents=True)
    for place in ("one.mp4", "below/two.mp4", ".hidden.mp4", "../../secret.mp4"):
        (allowed / place).write_bytes(demo_clip.read_bytes())
    (allowed / "notes.txt").write_text("no video")
    (allowed / "link.mp4").symlink_to(root / "secret.mp4")
    (root / "allowed" / "empty").mkdir()
    return root / "allowed"


@pytest.fixture(scope="module")
def jobs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, folders: Path, receiver: str, jobs_folder: Path
) -> Iterator[RunningServer]:
    variables = {
        "SERVE_JOBS__DIR": str(jobs_folder),
        "SERVE_JOBS__FOLDER_ROOT": str(folders),
        "SERVE_JOBS__MAX_INPUTS": "100",
        "SERVE_JOBS__MAX_EVENT_STREAMS": "1",
        "SERVE_JOBS__WEBHOOK_SECRET": SECRET,
        "SERVE_OUTGOING__INPUT_URLS": "true",
        "SERVE_OUTGOING__SCHEMES": '["http"]',
        "SERVE_OUTGOING__PORTS": f"[{receiver.rpartition(':')[2]}]",
        "SERVE_OUTGOING__ALLOW_LOOPBACK": "true",
    }
    with running_server(tmp_path_factory.mktemp("cache"), **variables) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
        yield client


def create(client: httpx.Client, *paths: Path, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    files = [("video", (path.name, path.read_bytes())) for path in paths]
    data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return client.post("/v1/jobs", files=files, data=data, headers=headers)


def made(response: httpx.Response) -> str:
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    return str(job["id"])


def finished(client: httpx.Client, job_id: str) -> dict[str, Any]:
    def is_done() -> bool:
        return client.get(f"/v1/jobs/{job_id}").json()["status"] in FINISHED

    assert eventually(is_done)
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    return job


def lines(client: httpx.Client, job_id: str, name: str) -> list[dict[str, Any]]:
    response = client.get(f"/v1/jobs/{job_id}/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in response.text.splitlines()]


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("/problems/")


def test_one_bad_input_of_many_is_one_line_of_errors(
    client: httpx.Client, server: RunningServer, jobs_folder: Path, demo_clip: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    options = {"candidate_labels": LABELS, "top_k": 1}
    job_id = made(create(client, *[demo_clip] * 6, bad, demo_clip, kind="classify", options=options))
    job = finished(client, job_id)
    assert (job["status"], job["progress"]) == ("completed", 1.0)
    assert job["request_counts"] == {"total": 8, "completed": 7, "failed": 1}
    results = lines(client, job_id, "output")
    assert [line["index"] for line in results] == [0, 1, 2, 3, 4, 5, 7]
    assert all(line["input"] == "walking.mp4" and line["kind"] == "classify" for line in results)
    assert all(line["result"]["results"][0]["label"] == LABELS[0] for line in results)
    (error,) = lines(client, job_id, "errors")
    assert (error["index"], error["input"]) == (6, "bad.mp4")
    assert (error["problem"]["type"], error["problem"]["status"]) == ("/problems/unsupported-media", 415)
    assert not list((jobs_folder / "inputs").iterdir()), "uploads go with their job"
    assert "bad.mp4" not in "".join(server.log)


def test_each_kind_answers_as_its_route_does(client: httpx.Client, demo_clip: Path) -> None:
    video = {"video": demo_clip.read_bytes()}
    routes = {"classify": "classify", "timeline": "timeline", "embed": "embeddings"}
    for kind, options in {
        "classify": {"top_k": 2, "vocabulary": "demo"},
        "timeline": {"view": "both", "top_k": 2},
        "embed": {"encoding_format": "base64"},
    }.items():
        job_id = made(create(client, demo_clip, kind=kind, options=options))
        finished(client, job_id)
        (line,) = lines(client, job_id, "output")
        expected = client.post(f"/v1/{routes[kind]}", files=video, data={"options": json.dumps(options)}).json()
        for answer in (line["result"], expected):
            answer.pop("timing_ms", None)
        assert line["result"] == expected


def test_a_job_uses_one_version_of_its_vocabulary(client: httpx.Client, demo_clip: Path) -> None:
    job = finished(client, made(create(client, demo_clip, kind="classify")))
    assert job["options"]["vocabulary"].startswith("demo@")


def test_a_timeline_may_be_answered_by_a_job(client: httpx.Client, demo_clip: Path) -> None:
    headers = {"prefer": "respond-async, wait=5", "idempotency-key": "a-timeline"}
    options = {"format": "google-video-intelligence"}
    for _ in range(2):
        response = client.post(
            "/v1/timeline",
            files={"video": demo_clip.read_bytes()}, data={"options": json.dumps(options)}, headers=headers,
        )  # fmt: skip
        job_id = made(response)
        assert response.headers["preference-applied"] == "respond-async"
    assert finished(client, job_id)["kind"] == "timeline"
    (line,) = lines(client, job_id, "output")
    assert line["result"]["annotationResults"]


def test_the_files_of_a_folder_are_inputs(client: httpx.Client, server: RunningServer) -> None:
    body = {"kind": "classify", "options": {"top_k": 1}, "folder": {"path": "archive"}}
    job_id = made(client.post("/v1/jobs", json=body))
    job = finished(client, job_id)
    assert job["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert [line["input"] for line in lines(client, job_id, "output")] == ["below/two.mp4", "one.mp4"]
    body["folder"] = {"path": "archive", "pattern": "*.txt"}
    job_id = made(client.post("/v1/jobs", json=body))
    assert finished(client, job_id)["request_counts"]["failed"] == 1
    body["folder"] = {"path": "empty"}
    job = finished(client, made(client.post("/v1/jobs", json=body)))
    assert job["status"] == "failed"
    assert "no file" in job["problem"]["detail"]


@pytest.mark.parametrize("path", ["..", "archive/../..", "/etc", "absent", "archive/one.mp4", "a\u0000b", "x" * 999])
def test_folders_outside_are_refused(client: httpx.Client, path: str) -> None:
    response = client.post("/v1/jobs", json={"kind": "classify", "folder": {"path": path}})
    assert problem(response) == (422, "invalid-option")


def test_inputs_at_urls_are_fetched(client: httpx.Client, receiver: str, demo_clip: Path) -> None:
    Receiver.videos.update({"/clip.mp4": demo_clip.read_bytes(), "/page.mp4": b"<html>" * 2000})
    urls = [f"{receiver}/{name}" for name in ("clip.mp4", "page.mp4", "absent.mp4")]
    job_id = made(client.post("/v1/jobs", json={"kind": "embed", "urls": urls[:2]}))
    finished(client, job_id)
    assert [line["input"] for line in lines(client, job_id, "output")] == urls[:1]
    (error,) = lines(client, job_id, "errors")
    assert error["problem"]["type"] == "/problems/unsupported-media"


def test_a_webhook_is_signed_tried_again_and_logged(client: httpx.Client, receiver: str, demo_clip: Path) -> None:
    Receiver.received.clear()
    job_id = made(create(client, demo_clip, kind="classify", webhook_url=f"{receiver}/hook"))
    assert finished(client, job_id)["webhook"]["state"] in ("pending", "delivered")
    assert eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["webhook"]["state"] == "delivered")
    attempts = client.get(f"/v1/jobs/{job_id}").json()["webhook"]["attempts"]
    assert [attempt["status"] for attempt in attempts] == [500, 204]
    ids = set()
    for headers, body in Receiver.received:
        event = Webhook(SECRET).verify(body, headers)
        assert (event["type"], event["data"]["id"]) == ("job.completed", job_id)
        ids.add({name.lower(): value for name, value in headers.items()}["webhook-id"])
    assert len(ids) == 1, "a receiver can tell that it is the same"
    text = client.get("/metrics").text
    assert 'actserve_webhook_attempts_total{outcome="retried"} 1.0' in text
    assert 'actserve_webhook_attempts_total{outcome="delivered"} 1.0' in text


def test_events_are_numbered_and_go_on_where_a_stream_broke_off(client: httpx.Client, demo_clip: Path) -> None:
    job_id = made(create(client, demo_clip, demo_clip, kind="classify", options={"top_k": 1}))
    url = f"/v1/jobs/{job_id}/events"

    def events(after: str) -> list[tuple[str, dict[str, Any]]]:
        with client.stream("GET", url, headers={"last-event-id": after}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            found = "".join(response.iter_text()).strip().split("\n\n")
        fields = [dict(line.split(": ", 1) for line in event.split("\n")) for event in found]
        return [(item["id"], json.loads(item["data"])) for item in fields if "id" in item]

    whole = events("0")
    assert [number for number, _ in whole] == [str(number) for number in range(1, len(whole) + 1)]
    assert whole[0][1]["status"] == "validating"
    assert whole[-1][1] == {"status": "completed", "request_counts": {"total": 2, "completed": 2, "failed": 0}}
    assert events("3") == whole[3:]
    assert client.get(url, headers={"last-event-id": str(len(whole))}).status_code == 204
    assert problem(client.get(url, headers={"last-event-id": "99"})) == (422, "invalid-option")
    assert problem(client.get(url, headers={"last-event-id": "x"})) == (422, "invalid-option")


def test_a_stream_too_many_is_refused(client: httpx.Client, demo_clip: Path) -> None:
    job_id = made(create(client, *[demo_clip] * 30, kind="timeline", options={"stride_seconds": 0.1}))
    url = f"/v1/jobs/{job_id}/events"
    with client.stream("GET", url) as response:
        lines = response.iter_lines()  # an iterator that is dropped would close the stream
        next(lines)
        refused = client.get(url)
        assert problem(refused) == (503, "overloaded")
        assert refused.headers["retry-after"]
    client.delete(f"/v1/jobs/{job_id}")

    def is_free() -> bool:
        with client.stream("GET", url) as response:
            return response.status_code == 200

    assert eventually(is_free), "a closed stream gives its place back"
    finished(client, job_id)


def test_an_idempotency_key_makes_one_job(client: httpx.Client, demo_clip: Path, tmp_path: Path) -> None:
    headers = {"idempotency-key": "once"}
    ids = {made(create(client, demo_clip, kind="classify", options={"top_k": 1}, headers=headers)) for _ in range(3)}
    assert len(ids) == 1
    other = create(client, demo_clip, kind="classify", options={"top_k": 2}, headers=headers)
    assert problem(other) == (422, "idempotency-key-reused")
    renamed = tmp_path / "renamed.mp4"
    renamed.write_bytes(demo_clip.read_bytes() + bytes(8))
    assert problem(create(client, renamed, kind="classify", options={"top_k": 1}, headers=headers))[0] == 422
    assert problem(create(client, demo_clip, kind="classify", headers={"idempotency-key": "a b"}))[0] == 422


def test_a_job_is_cancelled_and_deleted(client: httpx.Client, demo_clip: Path) -> None:
    job_id = made(create(client, *[demo_clip] * 30, kind="timeline", options={"stride_seconds": 0.1}))
    response = client.delete(f"/v1/jobs/{job_id}")
    assert response.status_code == 202
    assert response.json()["status"] in ("cancelling", "cancelled")
    job = finished(client, job_id)
    assert job["status"] == "cancelled"
    assert job["request_counts"]["completed"] < 30
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    for response in (client.get(f"/v1/jobs/{job_id}"), client.delete(f"/v1/jobs/{job_id}")):
        assert problem(response) == (404, "unknown-job")
    for name in ("output", "errors", "events"):
        assert problem(client.get(f"/v1/jobs/{job_id}/{name}")) == (404, "unknown-job")


def test_jobs_are_listed_in_pages_and_filtered(client: httpx.Client, demo_clip: Path) -> None:
    ids = [made(create(client, demo_clip, kind=kind)) for kind in ("classify", "embed", "embed")]
    for job_id in ids:
        finished(client, job_id)
    seen, token = [], None
    while token is not None or not seen:
        page = client.get("/v1/jobs", params={"page_size": 1, **({"page_token": token} if token else {})}).json()
        seen += [job["id"] for job in page["jobs"]]
        token = page["next_page_token"]
    assert seen[:3] == ids[::-1]
    assert len(set(seen)) == len(seen)
    found = client.get("/v1/jobs", params={"kind": "embed", "status": "completed"}).json()["jobs"]
    assert [job["id"] for job in found[:2]] == [ids[2], ids[1]]
    for query in ({"status": "done"}, {"kind": "x"}, {"page_token": "stale"}, {"page_size": 0}, {"other": 1}):
        assert problem(client.get("/v1/jobs", params=query)) == (422, "invalid-option")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (422, "invalid-option")),
        ({"kind": "transcribe"}, (422, "invalid-option")),
        ({"kind": "classify", "options": {"top_k": 0}}, (422, "invalid-option")),
        ({"kind": "classify", "options": {"window_seconds": 1}}, (422, "invalid-option")),
        ({"kind": "classify", "options": "[1]"}, (422, "invalid-option")),
        ({"kind": "classify", "options": {"vocabulary": "absent"}}, (404, "unknown-vocabulary")),
        ({"kind": "embed", "options": {"model": "absent"}}, (404, "unknown-model")),
        ({"kind": "timeline", "options": {"window_seconds": 1, "stride_seconds": 2}}, (422, "invalid-option")),
        ({"kind": "classify", "folder": "archive"}, (422, "invalid-option")),
        ({"kind": "classify", "webhook_url": "http://10.0.0.1/"}, (422, "address-refused")),
        ({"kind": "classify", "webhook_url": "http://user@127.0.0.1/"}, (422, "address-refused")),
    ],
    ids=str,
)
def test_a_job_that_cannot_be_done_is_refused_at_once(
    client: httpx.Client, demo_clip: Path, fields: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert problem(create(client, demo_clip, **fields)) == expected


def test_wrong_bodies_are_refused(client: httpx.Client, demo_clip: Path) -> None:
    for body in (
        {"kind": "classify"},
        {"kind": "classify", "urls": []},
        {"kind": "classify", "urls": ["http://x/"], "folder": {}},
        {"kind": "classify", "folder": {"path": "archive", "more": 1}},
    ):
        assert problem(client.post("/v1/jobs", json=body)) == (422, "invalid-option")
    assert (
        problem(client.post("/v1/jobs", json={"kind": "embed", "urls": ["http://10.0.0.1/"]}))[1] == "address-refused"
    )
    assert problem(client.post("/v1/jobs", content=b"x", headers={"content-type": "video/mp4"}))[0] in (415, 422)
    assert problem(client.post("/v1/jobs?kind=classify", files={"video": b"x"}))[0] == 422
    assert problem(create(client, *[demo_clip] * 101, kind="classify")) == (422, "invalid-option")


def test_what_the_operator_has_not_enabled_is_refused(http: httpx.Client, demo_clip: Path) -> None:
    for body in ({"kind": "embed", "urls": ["https://example.com/a.mp4"]}, {"kind": "embed", "folder": {"path": "x"}}):
        assert problem(http.post("/v1/jobs", json=body)) == (403, "not-enabled")
    assert problem(create(http, demo_clip, kind="embed", webhook_url="https://example.com/")) == (403, "not-enabled")
    limits = http.get("/v1/limits").json()["jobs"]
    assert (limits["folders"], limits["urls"], limits["webhooks"]) == (False, False, False)


def test_the_queue_is_in_the_metrics(client: httpx.Client, demo_clip: Path) -> None:
    finished(client, made(create(client, demo_clip, kind="classify")))
    text = client.get("/metrics").text
    assert 'actserve_job_inputs_total{kind="classify",outcome="completed"}' in text
    for name in ('actserve_jobs{status="in_progress"}', 'actserve_job_queue_inputs{state="pending"}'):
        assert name in text
    assert "actserve_oldest_job_age_seconds" in text
