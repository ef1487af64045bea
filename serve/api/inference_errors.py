"""Middleware that gives the errors of `/v2` the shape of the Open Inference Protocol.

The body has `error` with the text of `detail`; the other members of the problem, such as `type` and `request_id`, stay.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.problems import CONTENT_TYPE

PREFIX = "/v2"


class InferenceError(BaseModel):
    """Error of the Open Inference Protocol, with the members of an RFC 9457 problem except `detail`."""

    model_config = ConfigDict(extra="allow")

    error: str = Field(description="What was found and what is allowed.")
    type: str = Field(description="`/problems/NAME`, see the table of problems.")
    title: str
    status: int
    request_id: str = Field(description="Value of the header `X-Request-Id`.")


def is_inference_path(path: str) -> bool:
    """Return whether a path belongs to the Open Inference Protocol.

    >>> [is_inference_path(path) for path in ("/v2", "/v2/models/demo", "/v22", "/v1/models")]
    [True, True, False, False]
    """
    return path == PREFIX or path.startswith(f"{PREFIX}/")


class InferenceErrorMiddleware:
    """Converts the problems among the responses of `/v2`, whichever part of the application made them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", "")).removeprefix(str(scope.get("root_path", "")))
        if scope["type"] != "http" or not is_inference_path(path):
            await self.app(scope, receive, send)
            return
        start: Message | None = None  # of a problem whose body has not arrived
        body = b""

        async def send_converted(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
                return
            if start is None:
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                converted = convert(json.loads(body))
                headers = MutableHeaders(raw=start["headers"])
                headers["content-type"], headers["content-length"] = "application/json", str(len(converted))
                await send({**start, "headers": headers.raw})
                await send({**message, "body": b"" if scope["method"] == "HEAD" else converted})

        await self.app(scope, receive, send_converted)


def convert(problem: dict[str, Any]) -> bytes:
    """Return the body of the error for a problem."""
    detail = problem.pop("detail")
    return json.dumps({"error": detail, **problem}, ensure_ascii=False).encode()


def _is_problem(message: Message) -> bool:
    return MutableHeaders(raw=list(message.get("headers", []))).get("content-type", "").startswith(CONTENT_TYPE)
