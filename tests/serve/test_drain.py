"""A server that is asked to stop: readiness, requests in progress, new requests and stalled uploads."""

import re
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.running_server import running_server
from tests.waiting import PATIENCE_SECONDS, eventually


def start_upload(address: str, clip: bytes) -> socket.socket:
    parts = urlsplit(address)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE_SECONDS)
    headers = [
        "POST /v1/classify HTTP/1.1",
        "Host: localhost",
        "Content-Type: video/mp4",
        f"Content-Length: {len(clip)}",
    ]
    connection.sendall("\r\n".join([*headers, "", ""]).encode() + clip[:1000])
    return connection


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_a_server_drains(tmp_path: Path, demo_clip: Path) -> None:
    clip = demo_clip.read_bytes()
    with running_server(
        tmp_path, SERVE_HTTP__DRAIN_SECONDS="6", SERVE_HTTP__SHUTDOWN_SECONDS="6", SERVE_BODIES__GRACE_SECONDS="600"
    ) as server:
        with (
            start_upload(server.address, clip) as stalled,
            start_upload(server.address, clip) as finishing,
            httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client,
        ):
            assert eventually(lambda: "actserve_uploads_in_progress 2.0" in client.get("/metrics").text)
            server.process.terminate()
            assert eventually(lambda: client.get("/readyz").status_code == 503)
            assert "stopping" in client.get("/readyz").json()["detail"]
            refused = client.post("/v1/classify", files={"video": clip})
            assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
            assert refused.json()["type"] == "/problems/server-stopping"
            assert eventually(lambda: "are in progress, new ones get 503" in "".join(server.log))
            finishing.sendall(clip[1000:])
            assert b"HTTP/1.1 200 " in read_all(finishing)
            answer = read_all(stalled)
            assert answer.startswith(b"HTTP/1.1 503 ") and b"/problems/server-stopping" in answer
            assert b"retry-after: 1" in answer.lower()
        assert server.process.wait(PATIENCE_SECONDS) == 0
        log = "".join(server.log)
        # the two uploads, and a request of this test if one was in progress at that moment
        assert re.search("stopping: [23] requests are in progress", log)
        assert "1 requests were ended with 503" in log
        assert "Traceback" not in log


def test_a_server_that_is_not_ready_any_more_serves_until_the_balancer_knows(tmp_path: Path, demo_clip: Path) -> None:
    with (
        running_server(tmp_path, SERVE_HTTP__UNREADY_SECONDS="3600") as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client,
    ):
        server.process.terminate()
        assert eventually(lambda: client.get("/readyz").status_code == 503)
        assert client.post("/v1/classify", files={"video": demo_clip.read_bytes()}).status_code == 200
        server.process.send_signal(signal.SIGINT)  # a second signal ends the wait
        server.process.wait(PATIENCE_SECONDS)


def test_a_port_is_closed_while_requests_finish(tmp_path: Path, demo_clip: Path) -> None:
    clip = demo_clip.read_bytes()
    with (
        running_server(tmp_path, SERVE_HTTP__DRAIN_SECONDS="0", SERVE_HTTP__SHUTDOWN_SECONDS="3600") as server,
        start_upload(server.address, clip) as finishing,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client,
    ):
        assert eventually(lambda: "actserve_uploads_in_progress 1.0" in client.get("/metrics").text)
        server.process.terminate()
        assert eventually(lambda: is_refused(server.address))
        finishing.sendall(clip[1000:])
        assert b"HTTP/1.1 200 " in read_all(finishing)
        assert server.process.wait(PATIENCE_SECONDS) == 0


def is_refused(address: str) -> bool:
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False
