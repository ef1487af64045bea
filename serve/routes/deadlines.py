"""Deadlines of requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve.errors import DeadlineExceeded


@asynccontextmanager
async def request_deadline(seconds: float) -> AsyncIterator[float]:
    """Cancel the block after `seconds`; yield the deadline in seconds on the event loop's clock.

    Raises:
        DeadlineExceeded: the block took longer than `seconds`.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(deadline):
            yield deadline
    except TimeoutError as error:
        raise DeadlineExceeded(f"the request did not finish within {seconds} s") from error
