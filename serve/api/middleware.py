"""Middleware that assigns request ids, logs requests and records their metrics."""

import asyncio
import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.access.limits import rate_limit_headers
from serve.access.rules import OPEN_PATHS
from serve.api import problems
from serve.api.browsers import SECURITY_HEADERS
from serve.api.timeouts import timeout_of
from serve.errors import DeadlineExceeded, ServerStopping
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
                if "key_use" in scope:
                    headers.update(rate_limit_headers(scope["key_use"].states))
                if headers.get("location", "").startswith("/"):
                    headers["location"] = scope.get("root_path", "") + headers["location"]
                message = {**message, "headers": headers.raw}
            elif not message.get("more_body", False):
                await _end_key_use(scope)  # before the client can send its next request
            await send(message)

        try:
            async with asyncio.timeout(timeout_of(scope)):
                await self._application_for(scope)(scope, receive, send_with_id)
        except (Exception, asyncio.CancelledError) as error:
            replacement = None if response["has_started"] else _problem_of(scope, error)
            if replacement is None:
                raise  # the response cannot be replaced any more, or the request is cancelled
            replacement.headers.update(SECURITY_HEADERS)
            await replacement(scope, receive, send_with_id)
        finally:
            await asyncio.shield(_end_key_use(scope))
            scope["app"].state.bodies.release(scope.get("held_memory", []))
            self._record(scope, response["status"], time.perf_counter() - start_time, span)

    def _application_for(self, scope: Scope) -> ASGIApp:
        """Return the application, or a problem response if the server stops."""
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
        return _stopping_problem(scope) if _is_stopping(scope) and path not in OPEN_PATHS else self.app

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


async def _end_key_use(scope: Scope) -> None:
    """Record that a request of a key with limits has ended, once."""
    use = scope.get("key_use")
    if use is not None and not scope.get("is_key_use_ended", False):
        scope["is_key_use_ended"] = True
        await scope["app"].state.service.authorizer.end(use)


def _is_stopping(scope: Scope) -> bool:
    return bool(scope["app"].state.bodies.is_stopping)


def _stopping_problem(scope: Scope) -> Response:
    """Return the response to a request that a server rejects or ends because it stops."""
    response = problems.from_error(ServerStopping("the server is stopping; try again later"), scope["request_id"])
    response.headers.update({**SECURITY_HEADERS, "Connection": "close"})
    return response


def _problem_of(scope: Scope, error: BaseException) -> Response | None:
    """Return the problem response of an exception; None for a cancellation that the server did not request."""
    if isinstance(error, asyncio.CancelledError):
        return _stopping_problem(scope) if _is_stopping(scope) else None
    timeout = timeout_of(scope)
    if isinstance(error, TimeoutError) and timeout is not None:
        late = DeadlineExceeded(f"the request did not finish within {timeout:g} s")
        return problems.from_error(late, scope["request_id"])
    return problems.from_unexpected_exception(scope["request_id"], error)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if REQUEST_ID.fullmatch(text):
                return str(text)
    return secrets.token_hex(8)
