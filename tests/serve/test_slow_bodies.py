"""Bodies that are slow, many or refused, over raw sockets against a real server."""

import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS, eventually

GRACE_SECONDS = 12.0
TARGETS = ("/v1/classify", "/v1/embeddings", "/v1/vocabularies/kinetics400/labels/abseiling/examples", "/v1/timeline")
NUM_SLOW = 64  # as many as requests may be in progress, see SERVE_LIMITS__MAX_IN_FLIGHT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(
        tmp_path_factory.mktemp("bodies"),
        SERVE_BODIES__GRACE_SECONDS=f"{GRACE_SECONDS}",
        SERVE_BODIES__MIN_BYTES_PER_SECOND="1000",
        SERVE_BODIES__MEMORY_BYTES=f"{8 * 2**20}",
        SERVE_VOCABULARIES__MAX_BYTES=f"{4 * 2**20}",
        SERVE_LIMITS__MAX_FIELD_BYTES=f"{2 * 2**20}",
        SERVE_JOBS__MAX_UPLOAD_BYTES="1000",
        SERVE_JOBS__MAX_UPLOADS="100",
    ) as running:
        yield running


def start_request(server: RunningServer, target: str, *headers: str, method: str = "POST") -> socket.socket:
    """A request of 10 MB whose body has not begun."""
    address = urlsplit(server.address)
    connection = socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE_SECONDS)
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Content-Length: 10000000", *headers]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def metric(server: RunningServer, name: str) -> float:
    lines = httpx.get(f"{server.address}/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def test_slow_uploads_do_not_deny_others(server: RunningServer, demo_clip: Path) -> None:
    """The clip of others is classified while the slow uploads wait for their bodies, as many as may be in progress."""
    with ExitStack() as stack:
        slow = [
            stack.enter_context(start_request(server, target, "Content-Type: video/mp4", "If-Match: *"))
            for _ in range(NUM_SLOW // len(TARGETS))
            for target in TARGETS
        ]
        for connection in slow:
            connection.sendall(b"a")
        assert eventually(lambda: metric(server, "actserve_uploads_in_progress") > NUM_SLOW / 2)
        response = httpx.post(
            f"{server.address}/v1/classify", files={"video": demo_clip.read_bytes()}, timeout=PATIENCE_SECONDS
        )
        assert response.status_code == 200
        for connection in slow:
            answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 408 ") and b"/problems/slow-body" in answer
    assert eventually(lambda: metric(server, "actserve_uploads_in_progress") == 0)


def test_the_memory_of_bodies_is_bounded(server: RunningServer) -> None:
    """Stalled bodies of 3 MB: one client may hold half of 8 MiB, and gets it back when they end."""
    headers = ("Content-Type: application/json", "If-None-Match: *", "Content-Length: 3500000")
    address = urlsplit(server.address)
    with ExitStack() as stack:
        held = []
        for number in range(6):
            connection = socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE_SECONDS)
            stack.enter_context(connection)
            lines = [f"PUT /v1/vocabularies/v{number} HTTP/1.1", "Host: localhost", *headers, "", ""]
            connection.sendall("\r\n".join(lines).encode() + b" " * 3_000_000)
            held.append(connection)
            if number == 0:  # this one holds its memory before others compete for it
                assert eventually(lambda: metric(server, "actserve_body_memory_bytes") >= 3_000_000)
        answers = [read_all(connection) for connection in held]
    assert sum(b" 503 " in answer[:20] and b"/problems/overloaded" in answer for answer in answers) >= 1
    assert sum(b" 408 " in answer[:20] for answer in answers) >= 1
    assert all(answer.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 408 ")) for answer in answers)
    assert eventually(lambda: metric(server, "actserve_body_memory_bytes") == 0)
    body = {"labels": ["a", "b"]}
    created = httpx.put(f"{server.address}/v1/vocabularies/after", json=body, headers={"If-None-Match": "*"})
    assert created.status_code in (200, 202)


def test_a_refused_upload_sees_its_problem(server: RunningServer) -> None:
    """Python's http.client sends the whole body before it reads: a reset would hide the response."""
    address = urlsplit(server.address)

    def send(number: int) -> int:
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_SECONDS)
        headers = {
            "Content-Type": "multipart/form-data; boundary=x",
            "Connection": "close" if number % 2 else "keep-alive",
        }
        connection.request("POST", "/v1/jobs", b"x" * 20_000_000, headers)
        response = connection.getresponse()
        assert b"/problems/upload-too-large" in response.read()
        connection.close()
        return response.status

    with ThreadPoolExecutor(8) as executor:
        assert set(executor.map(send, range(40))) == {413}


def test_a_refused_request_is_read_for_a_limited_time(server: RunningServer) -> None:
    with start_request(server, "/v1/classify", "Content-Type: text/plain") as connection:
        assert b" 415 " in read_all(connection)

        def is_closed() -> bool:
            try:
                connection.sendall(b"a")
            except OSError:
                return True
            time.sleep(0.1)
            return False

        assert eventually(is_closed)
