"""Connections that are too many, too slow or not HTTP; raw sockets against a real server."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS, eventually

HEADER_SECONDS = 2.0
PER_ADDRESS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(
        tmp_path_factory.mktemp("connections"),
        SERVE_HTTP__HEADER_TIMEOUT_SECONDS=f"{HEADER_SECONDS}",
        SERVE_HTTP__MAX_CONNECTIONS_PER_ADDRESS=f"{PER_ADDRESS}",
        SERVE_HTTP__MAX_HEADER_BYTES="8192",
        SERVE_HTTP__TRUSTED_PROXIES="192.0.2.1",
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def others_are_closed(server: RunningServer) -> None:
    """The server forgets a connection a little later than its client."""

    def is_free() -> bool:
        sockets = [connect(server) for _ in range(PER_ADDRESS)]
        try:
            sockets[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return b" 200 " in sockets[-1].recv(65_536)
        finally:
            for item in sockets:
                item.close()

    assert eventually(is_free)
    assert eventually(lambda: "actserve" in httpx.get(f"{server.address}/").text)


def connect(server: RunningServer) -> socket.socket:
    address = urlsplit(server.address)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE_SECONDS)


def everything(connection: socket.socket) -> bytes:
    """What arrives until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "], ids=["silent", "half"])
def test_headers_have_to_be_complete_in_time(sent: bytes, server: RunningServer) -> None:
    with connect(server) as connection:
        started = time.monotonic()
        connection.sendall(sent)
        answer = everything(connection)
        assert time.monotonic() - started >= HEADER_SECONDS * 0.9  # the loop's clock has a coarse resolution
    assert answer.startswith(b"HTTP/1.1 408 ") and b"/problems/slow-headers" in answer


def test_dribbled_headers_do_not_keep_a_connection(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")

        def is_closed() -> bool:
            try:
                connection.sendall(b"X-A: b\r\n")
            except OSError:
                return True
            time.sleep(0.05)
            return False

        assert eventually(is_closed)


def test_the_second_request_of_a_connection_is_bounded_too(server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in connection.recv(65_536)
        connection.sendall(b"GET /healthz HTT")
        assert b" 408 " in everything(connection)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 20_000,
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n",  # TLS
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: other\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["long header", "long path", "TLS", "nonsense", "two lengths", "unknown coding", "length and coding"],
)
def test_what_is_no_request_is_refused_with_a_problem(sent: bytes, server: RunningServer) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        answer = everything(connection)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")) and b"application/problem+json" in answer
    assert answer.count(b"HTTP/1.1 ") == 1  # what follows is not answered
    assert httpx.get(f"{server.address}/healthz").status_code == 200


def test_an_address_may_open_so_many_connections(server: RunningServer) -> None:
    held = [connect(server) for _ in range(PER_ADDRESS)]
    try:
        with connect(server) as further:
            answer = everything(further)
        assert b" 503 " in answer and b"retry-after" in answer.lower() and b"/problems/overloaded" in answer
    finally:
        for item in held:
            item.close()
    assert eventually(lambda: httpx.get(f"{server.address}/healthz").status_code == 200)


def test_a_slow_body_is_no_slow_header(server: RunningServer) -> None:
    """Bodies have deadlines of their own."""
    with connect(server) as connection:
        connection.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nContent-Length: 3\r\n\r\n"
        )
        time.sleep(HEADER_SECONDS * 1.5)
        connection.sendall(b"abc")
        assert b" 415 " in connection.recv(65_536)
