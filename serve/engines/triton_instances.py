"""Notice that a Triton server has loaded a model anew, by its statistics.

A server says neither when it loaded a version nor from which file. The counters of a loaded version only grow, and
start at zero when it is loaded again: by a restart, by the repository API or by polling. A version that was loaded anew
and has done more work than the one before it in its whole life would look the same; the counters include computing time
and are read after every call and twice a second, too soon for that.
"""

import asyncio
from collections.abc import Mapping

from serve.engines.triton_server import Counters, TritonServer
from serve.errors import EngineUnavailable

COUNT_SECONDS = 5.0  # the server counts a run a moment after it has answered
COUNT_POLL_SECONDS = 0.01


class LoadedInstances:
    """The loaded models of one version: `confirm` fails once the server has replaced one of them."""

    def __init__(self, server: TritonServer, models: Mapping[str, str], version: int) -> None:
        self._server = server
        self._models = models  # by tower
        self._version = version
        self._last: dict[str, Counters] = {}
        self._turns = {tower: asyncio.Lock() for tower in models}
        self._begun = dict.fromkeys(models, 0)  # readings, by tower
        self._read_last = dict.fromkeys(models, 0)  # number of the last one that was answered
        self.epoch = 0  # grows with each change that was noticed

    def forget(self) -> None:
        """Take nothing that is loaded as known, as when the server has been away."""
        self.epoch += 1

    async def adopt(self) -> int:
        """Take what is loaded now as what is to stay; returns its epoch.

        Raises:
            ServiceError: the server does not answer, has no such version or keeps no statistics.
        """
        self._last = {tower: await self._read(tower) for tower in self._models}
        self.epoch += 1
        return self.epoch

    async def confirm_run(self, tower: str) -> None:
        """As `confirm`, after a run: the reading counts at least one, so that a model loaded next has done less.

        Raises:
            EngineUnavailable: the server has loaded the model anew, or does not count its runs.
            ServiceError: see `adopt`.
        """
        await self.confirm(tower)
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                while self._last[tower].inferences == 0:
                    await asyncio.sleep(COUNT_POLL_SECONDS)
                    await self.confirm(tower)
        except TimeoutError as error:
            raise EngineUnavailable("the Triton server does not count its runs") from error

    async def confirm(self, tower: str) -> None:
        """Return once a reading that began after this call shows the model that was adopted.

        Callers that wait for the same reading share it.

        Raises:
            EngineUnavailable: the server has loaded the model anew.
            ServiceError: see `adopt`.
        """
        begun, epoch = self._begun[tower], self.epoch
        async with self._turns[tower]:
            if self._read_last[tower] <= begun:
                self._begun[tower] += 1
                now = await self._read(tower)
                self._read_last[tower] = self._begun[tower]
                if self.epoch == epoch and not now.continues(self._last[tower]):
                    self.epoch += 1
                if self.epoch == epoch:
                    self._last[tower] = now
        if self.epoch != epoch:
            raise EngineUnavailable("the Triton server has loaded the model anew")

    async def _read(self, tower: str) -> Counters:
        return await self._server.counters(self._models[tower], self._version)
