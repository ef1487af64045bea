"""Deadlines of requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from serve.api.timeouts import timeout_of
from serve.errors import DeadlineExceeded


@asynccontextmanager
async def request_deadline(request: Request, seconds: float) -> AsyncIterator[float]:
    """Cancel the block after `seconds`, or after `X-Request-Timeout` if that is shorter.

    Yields the deadline in seconds on the event loop's clock.

    Raises:
        DeadlineExceeded: the block took longer.
    """
    own = timeout_of(request.scope)
    limit = seconds if own is None else min(seconds, own)
    deadline = asyncio.get_running_loop().time() + limit
    try:
        async with asyncio.timeout_at(deadline):
            yield deadline
    except TimeoutError as error:
        raise DeadlineExceeded(f"the request did not finish within {limit:g} s") from error
