"""Connections with bounds: their number, the size of a request's headers, and the time until they are complete.

uvicorn's HTTP/1.1 protocol on h11 limits the size of headers, but not how long a client may take to send them, nor how
many connections one address may open. If a response is sent before the body of its request is complete, uvicorn either
closes the connection at once, so that a client that still sends gets a reset instead of the response, or reads the rest
without a limit. Here, the rest is discarded within limits before the connection is closed.
"""

import asyncio
import ipaddress
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from serve.api.problems import CONTENT_TYPE, describe
from serve.errors import ActserveError, InvalidHeaders, Overloaded, SlowHeaders
from serve.http_settings import HttpSettings

RETRY_AFTER_SECONDS = 1
LINGER_SECONDS = 5.0  # how long the rest of a request is discarded after its response, and how much of it
LINGER_BYTES = 64 * 2**20
END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")  # as h11 reads it


def bounded_protocol(settings: HttpSettings) -> type[asyncio.Protocol]:
    """Return a protocol class for `uvicorn.Config(http=...)`; the counts are those of one server."""
    networks = [ipaddress.ip_network(item) for item in settings.proxies]
    per_address: Counter[str] = Counter()

    class Bounded(BoundedProtocol):
        limits = settings
        proxies = networks
        addresses = per_address

    return Bounded


class LingeringTransport:
    """A transport whose `close` lets the protocol read the rest of a request first."""

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], bool]) -> None:
        """`linger` returns whether it has taken over to close the connection later."""
        self._transport = transport
        self._linger = linger

    def close(self) -> None:
        """Close the transport now, or after the rest of the request."""
        if not self._linger():
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(H11Protocol):
    """One connection; a refusal is a problem, after which the connection is closed."""

    limits: HttpSettings
    proxies: list[ipaddress.IPv4Network | ipaddress.IPv6Network]
    addresses: Counter[str]  # open connections of each address that is not a proxy

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._num_discarded = 0
        self._counted: str | None = None
        self._application = self.app
        self.app = self._run_application

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it if there are too many."""
        self._socket = transport
        super().connection_made(LingeringTransport(transport, self._linger))  # type: ignore[arg-type]  # delegates
        address = self.client[0] if self.client else ""
        if not self._is_proxy(address):
            self._counted = address
            self.addresses[address] += 1
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, Overloaded(f"more than {self.limits.max_connections} connections are open"))
        elif self._counted is not None and self.addresses[address] > self.limits.max_connections_per_address:
            limit = self.limits.max_connections_per_address
            self._refuse(503, Overloaded(f"this address has more than {limit} connections open"))
        else:
            self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_header_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        if self._counted is not None:
            self.addresses[self._counted] -= 1
            if not self.addresses[self._counted]:
                del self.addresses[self._counted]
            self._counted = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived; h11 itself limits headers only while they are incomplete."""
        if self._linger_timer is not None:
            self._discard(data)
            return
        if self.conn.their_state is h11.IDLE:
            buffered = self.conn.trailing_data[0] + data
            end = END_OF_HEADERS.search(buffered)
            if (len(buffered) if end is None else end.start()) > self.limits.max_header_bytes:
                self.send_400_response("the request is too large")
                return
        super().data_received(data)

    def handle_events(self) -> None:
        """Handle what has arrived; the headers of the next request have to be complete in time."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_header_timer()
        elif self._header_timer is None and self.conn.trailing_data[0]:
            self._start_header_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP, or whose headers are too large."""
        limit = self.limits.max_header_bytes
        self._refuse(400, InvalidHeaders(f"{msg.rstrip('.')}, or its headers have more than {limit} bytes"))

    def shutdown(self) -> None:
        """Finish the request in progress, then close the connection."""
        if self._linger_timer is None:
            super().shutdown()

    async def _run_application(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application; a response before the end of the request's body closes the connection."""

        async def send_closing(message: Any) -> None:
            if message["type"] == "http.response.start" and self.conn.their_state is h11.SEND_BODY:
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            await send(message)

        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            # A proxy may have taken the other length, so that the bytes that follow are no request of its client.
            headers, body = _problem(400, InvalidHeaders("a request has either Content-Length or Transfer-Encoding"))
            encoded = [(name.encode(), value.encode()) for name, value in headers]
            await send({"type": "http.response.start", "status": 400, "headers": encoded})
            await send({"type": "http.response.body", "body": body})
            return
        await self._application(scope, receive, send_closing)

    def _linger(self, *, even_if_idle: bool = False) -> bool:
        """Discard the rest of the request if its body is incomplete, then close; return whether there is a rest."""
        if self._linger_timer is not None:
            return True
        is_expected = self.conn.their_state is h11.SEND_BODY or even_if_idle
        is_crowded = len(self.connections) > 2 * self.limits.max_connections
        if not is_expected or is_crowded or self._socket.is_closing():
            return False
        self._linger_timer = self.loop.call_later(LINGER_SECONDS, self._socket.close)
        if self._socket.can_write_eof():
            self._socket.write_eof()
        self.flow.resume_reading()
        return True

    def _discard(self, data: bytes) -> None:
        self._num_discarded += len(data)
        if self._num_discarded > LINGER_BYTES:
            self._socket.close()

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.proxies)

    def _start_header_timer(self) -> None:
        self._header_timer = self.loop.call_later(self.limits.header_timeout_seconds, self._refuse_slow_headers)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _refuse_slow_headers(self) -> None:
        self._header_timer = None
        if self.cycle is None or self.cycle.response_complete:
            seconds = self.limits.header_timeout_seconds
            self._refuse(408, SlowHeaders(f"the headers of a request were not complete after {seconds:g} s"))

    def _refuse(self, status: int, error: ActserveError) -> None:
        """Send a problem if a response can still begin, and close the connection."""
        self._stop_header_timer()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in _events(status, error):
                self.transport.write(self.conn.send(event) or b"")
        if not self._linger(even_if_idle=True):
            self._socket.close()


def _events(status: int, error: ActserveError) -> list[h11.Event]:
    headers, body = _problem(status, error)
    reason = HTTPStatus(status).phrase.encode()
    return [h11.Response(status_code=status, headers=headers, reason=reason), h11.Data(data=body), h11.EndOfMessage()]


def _problem(status: int, error: ActserveError) -> tuple[list[tuple[str, str]], bytes]:
    """Return (headers, body) of a response that closes the connection."""
    slug, title = describe(type(error))
    request_id = secrets.token_hex(8)
    document = {
        "type": f"/problems/{slug}", "title": title, "status": status, "detail": error.message,
        "request_id": request_id,
    }  # fmt: skip
    body = json.dumps(document).encode()
    headers = [
        ("content-type", CONTENT_TYPE),
        ("content-length", str(len(body))),
        ("connection", "close"),
        ("x-request-id", request_id),
        ("x-content-type-options", "nosniff"),
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("retry-after", str(RETRY_AFTER_SECONDS)))
    return headers, body
