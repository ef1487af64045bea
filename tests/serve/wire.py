"""Requests sent byte for byte, as no HTTP library would write them."""

import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class WireAnswer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


def exchange(address: str, request: bytes, *, timeout_seconds: float = 120.0) -> WireAnswer:
    """The response of the server at `address` to these bytes, which have to ask for `Connection: close`."""
    found = urlsplit(address)
    assert found.hostname is not None
    with socket.create_connection((found.hostname, found.port or 80), timeout=timeout_seconds) as connection:
        connection.sendall(request)
        answer = bytearray()
        while piece := connection.recv(65_536):
            answer += piece
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _joined(body)
    return WireAnswer(status=int(first.split()[1]), headers=headers, body=body)


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """A request; `_` in names of headers stands for `-`."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _joined(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        found, body = found + rest[:length], rest[length + 2 :] if length else b""
    return found
