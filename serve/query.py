"""Strict query strings: unknown names, repeated names and values that are not UTF-8 text are rejected.

The application runs `check_request_line` for each route. A route that reads query options from the request itself
declares them with `accepts_query`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from serve.errors import InvalidOption
from serve.unicode_text import describe_text_fault

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_ATTRIBUTE = "query_names"  # attribute of an endpoint that holds its declared names


def accepts_query(*names: str) -> Callable[[Endpoint], Endpoint]:
    """Declare the query options that an endpoint reads with `read_query`."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _ATTRIBUTE, names)
        return endpoint

    return mark


async def check_request_line(request: Request) -> None:
    """Check that path and query are UTF-8 text and that the route declares every query option.

    Raises:
        InvalidOption: they are not, or an option that FastAPI reads is repeated.
    """
    _decode_text(request.scope.get("raw_path") or b"", "the path")
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    parameters = _parameter_names(route.dependant)
    values = read_query(request, (*parameters, *getattr(route.endpoint, _ATTRIBUTE, ())))
    for name in parameters:
        if len(values.get(name, ())) > 1:
            raise InvalidOption(f"the query has `{name}` {len(values[name])} times; send it once")


def _parameter_names(dependant: Dependant) -> list[str]:
    """Return the query parameters that FastAPI reads for a route and its dependencies."""
    names = [field.alias for field in dependant.query_params]
    return names + [name for inner in dependant.dependencies for name in _parameter_names(inner)]


def read_query(request: Request, allowed: Sequence[str]) -> dict[str, list[str]]:
    """Parse the query string; return the values by name.

    Raises:
        InvalidOption: a name is not in `allowed`, or a name or value is not UTF-8 text.
    """
    raw: bytes = request.scope.get("query_string") or b""
    values: dict[str, list[str]] = {}
    for item in raw.split(b"&"):
        if item:
            name, _, value = (_decode_text(piece.replace(b"+", b" "), "the query") for piece in item.partition(b"="))
            values.setdefault(name, []).append(value)
    unknown = [name for name in values if name not in allowed]
    if unknown:
        raise InvalidOption(
            f"unknown query option `{unknown[0][:80]}`; "
            + (f"allowed: {', '.join(allowed)}" if allowed else "this route has no query options"),
            allowed=list(allowed),
        )
    return values


def _decode_text(percent_encoded: bytes, subject: str) -> str:
    """Decode percent-encoded UTF-8; `subject` names it in the error message."""
    raw = unquote_to_bytes(percent_encoded)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidOption(
            f"{subject} is not valid UTF-8 after percent-decoding: byte {error.start} of {raw[:40]!r}"
        ) from error
    fault = describe_text_fault(text)
    if fault is not None:
        raise InvalidOption(f"{subject} contains {fault}")
    return text
