"""Turns of encodings: large vocabularies give way to small ones between slices.

The encodings of several vocabularies share the text graph by the prompts they have encoded, see
`serve.admission.fair_queue`: one that joins is served next, so a small vocabulary waits for one slice of a large one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from serve.admission.fair_queue import FairQueue

GROUP = "vocabularies"


@dataclass(frozen=True, eq=False)
class _Turn:
    start: asyncio.Future[None]


class EncodingTurns:
    """One encoding at a time works, for one slice."""

    def __init__(self) -> None:
        self._queue: FairQueue[_Turn] = FairQueue()
        self._is_taken = False

    @asynccontextmanager
    async def take(self, name: str, num_prompts: int) -> AsyncIterator[None]:
        """Wait for the turn of the encoding `name`, and hold it in the block to encode `num_prompts` prompts."""
        turn = _Turn(asyncio.get_running_loop().create_future())
        self._queue.push(GROUP, name, turn, num_prompts)
        if not self._is_taken:
            self._pass_on()
        try:
            await turn.start
        except asyncio.CancelledError:
            if turn.start.done() and not turn.start.cancelled():
                self._pass_on()
            else:
                self._queue.remove(GROUP, name, turn)
            raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while (turn := self._queue.pop([GROUP])) is not None and turn.start.cancelled():
            pass  # its task is cancelled, and has not run since then
        self._is_taken = turn is not None
        if turn is not None:
            turn.start.set_result(None)
