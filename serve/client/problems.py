"""Exceptions of the client.

ClientError
├── ProblemError         the server responded with a problem (RFC 9457)
├── ServerUnreachable    no connection, or it ended before the response was complete
└── UnexpectedResponse   the response does not come from an actserve server
"""

from collections.abc import Mapping
from typing import Any

import httpx

MEMBERS = frozenset({"type", "title", "status", "detail", "request_id"})


class ClientError(Exception):
    """Base class of the exceptions of the client."""


class ServerUnreachable(ClientError):
    """The server cannot be reached, or the connection ended before the response was complete."""

    def __init__(self, url: str, cause: Exception) -> None:
        super().__init__(f"cannot reach a server at {url}: {cause or type(cause).__name__}")
        self.url, self.cause = url, cause


class UnexpectedResponse(ClientError):
    """The response does not come from an actserve server, or from one of a very different release."""

    def __init__(self, url: str, status: int, found: str) -> None:
        super().__init__(f"{url} responded with status {status} and {found}")
        self.url, self.status = url, status


class ProblemError(ClientError):
    """The server responded with a problem; `extensions` are its additional members.

    `slug` is the last part of `type`, such as `video-too-short`; the HTTP reference lists all of them.
    """

    def __init__(self, document: Mapping[str, Any], *, retry_after_seconds: float | None = None) -> None:
        super().__init__(str(document["detail"]))
        self.document = dict(document)
        self.type = str(document["type"])
        self.slug = self.type.rpartition("/")[2]
        self.title = str(document["title"])
        self.status = int(document["status"])
        self.detail = str(document["detail"])
        self.request_id: str | None = document.get("request_id")
        self.extensions = {name: value for name, value in document.items() if name not in MEMBERS}
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        suffix = f", request {self.request_id}" if self.request_id else ""
        return f"{self.detail} ({self.slug}, status {self.status}{suffix})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.document, self.retry_after_seconds)


def _rebuild(document: Mapping[str, Any], retry_after_seconds: float | None) -> ProblemError:
    return ProblemError(document, retry_after_seconds=retry_after_seconds)


def error_of(response: httpx.Response, retry_after_seconds: float | None) -> ClientError:
    """Return the exception for a response, whose body was read, with a status that is not a success."""
    try:
        document = response.json()
        return ProblemError(document, retry_after_seconds=retry_after_seconds)
    except (ValueError, KeyError, TypeError):
        return UnexpectedResponse(str(response.url), response.status_code, "no problem document")
