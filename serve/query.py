"""Query strings: the route knows every name, each name occurs once, and all values are text.

The application runs `check_request_line` for each route. A route that reads further query options itself declares them
by `reads_query`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from serve.errors import InvalidOption
from serve.unicode_text import text_fault

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_NAMES = "query_names"  # attribute of an endpoint


def reads_query(*names: str) -> Callable[[Endpoint], Endpoint]:
    """Declare query options that the endpoint reads itself, by `query_options`."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _NAMES, names)
        return endpoint

    return mark


async def check_request_line(request: Request) -> None:
    """Refuse a path or query that is not text, and unknown query options.

    Raises:
        InvalidOption: names them and what is allowed.
    """
    _check_text(request.scope.get("raw_path") or b"", "the path")
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    own = getattr(route.endpoint, _NAMES, ())
    declared = _declared(route.dependant)
    found = _parsed(request, (*declared, *own))
    for name in declared:
        if len(found.get(name, ())) > 1:
            raise InvalidOption(f"the query gives `{name}` {len(found[name])} times; give it once")


def _declared(dependant: Dependant) -> list[str]:
    own = [field.alias for field in dependant.query_params]
    return own + [name for inner in dependant.dependencies for name in _declared(inner)]


def query_options(request: Request, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the raw values of a query by name.

    Raises:
        InvalidOption: there is another name, or a value is not text.
    """
    return _parsed(request, names)


def _parsed(request: Request, allowed: Sequence[str]) -> dict[str, list[str]]:
    raw: bytes = request.scope.get("query_string") or b""
    found: dict[str, list[str]] = {}
    for item in raw.split(b"&"):
        if item:
            name, _, value = (_text(piece) for piece in item.partition(b"="))
            found.setdefault(name, []).append(value)
    unknown = [name for name in found if name not in allowed]
    if unknown:
        raise InvalidOption(
            f"the query holds `{unknown[0][:80]}`, which this route does not know; "
            + (f"allowed: {', '.join(allowed)}" if allowed else "this route has no query options"),
            allowed=list(allowed),
        )
    return found


def _text(piece: bytes) -> str:
    return _check_text(piece.replace(b"+", b" "), "the query")


def _check_text(percent_encoded: bytes, where: str) -> str:
    raw = unquote_to_bytes(percent_encoded)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidOption(f"{where} is not UTF-8 once percent-decoded: byte {error.start} of {raw[:40]!r}") from error
    fault = text_fault(text)
    if fault is not None:
        raise InvalidOption(f"{where} holds {fault}")
    return text
