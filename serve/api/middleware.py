"""Middleware that assigns request ids, logs requests and records their metrics."""

import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api import problems
from serve.telemetry.context import RequestContext, set_current_request
from serve.telemetry.spans import NO_TRACER, RequestSpan, Tracer, request_span

logger = logging.getLogger("serve.requests")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContextMiddleware:
    """Sets `X-Request-Id`, logs each request and records its metrics.

    The id of the client is used if it matches `REQUEST_ID`. A relative `Location` is prefixed with the root path of the
    application behind a proxy.
    """

    def __init__(self, app: ASGIApp, *, tracer: Tracer = NO_TRACER) -> None:
        self.app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(scope)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with request_span(self._tracer, scope["method"], headers) as span:
            set_current_request(RequestContext(request_id, trace_id=span.trace_id))
            await self._respond(scope, receive, send, request_id=request_id, span=span)

    async def _respond(self, scope: Scope, receive: Receive, send: Send, *, request_id: str, span: RequestSpan) -> None:
        response: dict[str, Any] = {"status": 500, "has_started": False}
        start_time = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.update(status=message["status"], has_started=True)
                headers = MutableHeaders(raw=[*message.get("headers", []), (b"x-request-id", request_id.encode())])
                if headers.get("location", "").startswith("/"):
                    headers["location"] = scope.get("root_path", "") + headers["location"]
                message = {**message, "headers": headers.raw}
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            if response["has_started"]:
                raise  # the response cannot be replaced any more
            await problems.from_unexpected_exception(request_id, error)(scope, receive, send_with_id)
        finally:
            self._record(scope, response["status"], time.perf_counter() - start_time, span)

    @staticmethod
    def _record(scope: Scope, status: int, seconds: float, span: RequestSpan) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        span.finish(route=route, status=status)
        stages = scope.get("state", {}).get("timing_ms", {})
        logger.info(
            "%s %s %s %s %.1f ms%s",
            scope["request_id"],
            scope["method"],
            route,
            status,
            seconds * 1000,
            "".join(f" {stage}_ms={value:.1f}" for stage, value in stages.items()),
            extra={
                "fields": {
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "duration_ms": round(seconds * 1000, 2),
                    **({"timing_ms": dict(stages)} if stages else {}),
                }
            },
        )
        service = getattr(scope["app"].state, "service", None)
        if service is not None:
            service.metrics.observe_request(route, status, seconds)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if REQUEST_ID.fullmatch(text):
                return str(text)
    return secrets.token_hex(8)
