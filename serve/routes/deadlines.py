"""Deadlines of answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve.errors import DeadlineExceeded


@asynccontextmanager
async def answer_within(seconds: float) -> AsyncIterator[float]:
    """Give the block `seconds`; yield the deadline in seconds of the event loop's clock.

    Raises:
        DeadlineExceeded: the block took longer.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        async with asyncio.timeout_at(deadline):
            yield deadline
    except TimeoutError as error:
        raise DeadlineExceeded(f"no answer within {seconds} s") from error
