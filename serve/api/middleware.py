"""Middleware that assigns request ids, logs requests and records their metrics."""

import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api import problems

logger = logging.getLogger("serve.requests")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestContextMiddleware:
    """Sets `X-Request-Id`, logs each request and records its metrics.

    The id of the client is used if it matches `REQUEST_ID`. A relative `Location` is prefixed with the root path of the
    application behind a proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(scope)
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
            self._record(scope, response["status"], time.perf_counter() - start_time)

    @staticmethod
    def _record(scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        stages = scope.get("state", {}).get("timing_ms", {})
        logger.info(
            "%s %s %s %s %.1f ms%s",
            scope["request_id"],
            scope["method"],
            route,
            status,
            seconds * 1000,
            "".join(f" {stage}_ms={value:.1f}" for stage, value in stages.items()),
        )
        service = getattr(scope["app"].state, "service", None)
        if service is not None:
            service.metrics.requests.labels(route, status).inc()
            service.metrics.request_seconds.labels(route).observe(seconds)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if REQUEST_ID.fullmatch(text):
                return str(text)
    return secrets.token_hex(8)
