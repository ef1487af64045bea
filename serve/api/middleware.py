"""Middleware: the id, the log line and the metrics of every request."""

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


class RequestFacts:
    """Sets `X-Request-Id` (the client's if it is a plain word), counts and logs each request.

    A `Location` of a route is completed by the path under which a proxy serves the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(scope)
        facts: dict[str, Any] = {"status": 500, "started": False}
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts.update(status=message["status"], started=True)
                headers = MutableHeaders(raw=[*message.get("headers", []), (b"x-request-id", request_id.encode())])
                if headers.get("location", "").startswith("/"):
                    headers["location"] = scope.get("root_path", "") + headers["location"]
                message = {**message, "headers": headers.raw}
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            if facts["started"]:
                raise  # the response has begun; it cannot be replaced
            await problems.unexpected(request_id, error)(scope, receive, send_with_id)
        finally:
            self._record(scope, facts, time.perf_counter() - started)

    @staticmethod
    def _record(scope: Scope, facts: dict[str, Any], seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        stages = scope.get("state", {}).get("timing_ms", {})
        logger.info(
            "%s %s %s %s %.1f ms%s",
            scope["request_id"],
            scope["method"],
            route,
            facts["status"],
            seconds * 1000,
            "".join(f" {stage}_ms={value:.1f}" for stage, value in stages.items()),
        )
        service = getattr(scope["app"].state, "service", None)
        if service is not None:
            service.metrics.requests.labels(route, facts["status"]).inc()
            service.metrics.request_seconds.labels(route).observe(seconds)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if REQUEST_ID.fullmatch(given):
                return str(given)
    return secrets.token_hex(8)
