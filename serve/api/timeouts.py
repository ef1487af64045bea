"""The header `X-Request-Timeout`: the time after which a client does not wait any longer for the response."""

import re
from typing import Annotated

from fastapi import Header, Request
from starlette.types import Scope

from serve.errors import InvalidOption

HEADER = "X-Request-Timeout"
MAX_SECONDS = 86_400.0
SECONDS = re.compile(r"[0-9]{1,5}(\.[0-9]{1,9})?")


def timeout_of(scope: Scope) -> float | None:
    """Return the timeout of a request in seconds; None without a valid header, which `check_timeout` rejects."""
    values = [value.decode("latin-1").strip() for name, value in scope["headers"] if name == b"x-request-timeout"]
    if len(values) != 1 or SECONDS.fullmatch(values[0]) is None:
        return None
    seconds = float(values[0])
    return seconds if 0 < seconds <= MAX_SECONDS else None


async def check_timeout(
    request: Request,
    header: Annotated[
        str | None,
        Header(
            alias=HEADER,
            description="Time limit of the request in seconds, e.g. `2.5`; beyond it, its work is cancelled and the "
            "response is 504. The limits of the server apply as well.",
        ),
    ] = None,
) -> None:
    """Check the header; the middleware and `serve.routes.deadlines` apply it.

    Raises:
        InvalidOption: it is not a number of seconds in the allowed range.
    """
    if header is not None and timeout_of(request.scope) is None:
        raise InvalidOption(f"{HEADER} must be one number of seconds, more than 0 and at most {MAX_SECONDS:g}")
