"""Detect from its statistics that a Triton server has reloaded a model.

A server reports neither when it loaded a version nor from which file. The counters of a loaded version only grow and
restart at zero when it is loaded again: by a restart, by the repository API or by polling. A reload would go unnoticed
only if every counter, computing time included, overtook its previous value between two readings. Readings are taken
after every call and twice a second, which is too often for that.
"""

import asyncio
from collections.abc import Mapping

from serve.engines.triton_server import Counters, TritonServer
from serve.errors import EngineUnavailable

COUNT_SECONDS = 5.0  # the server counts a run shortly after its answer
COUNT_POLL_SECONDS = 0.01


class LoadedInstances:
    """The loaded models of one version; `confirm` raises once the server has reloaded one of them."""

    def __init__(self, server: TritonServer, models: Mapping[str, str], version: int) -> None:
        self._server = server
        self._models = models  # by tower
        self._version = version
        self._last: dict[str, Counters] = {}
        self._turns = {tower: asyncio.Lock() for tower in models}
        self._begun = dict.fromkeys(models, 0)  # readings, by tower
        self._read_last = dict.fromkeys(models, 0)  # number of the last completed reading
        self.epoch = 0  # incremented at each detected change

    def forget(self) -> None:
        """Treat everything loaded as unknown, e.g. after a disconnect."""
        self.epoch += 1

    async def adopt(self) -> int:
        """Make the currently loaded models the reference; return their epoch.

        Raises:
            ServiceError: the server does not answer, has no such version or keeps no statistics.
        """
        self._last = {tower: await self._read(tower) for tower in self._models}
        self.epoch += 1
        return self.epoch

    async def confirm_run(self, tower: str) -> None:
        """Confirm after a run; wait until the reading counts the run, so that a later reload shows smaller counters.

        Raises:
            EngineUnavailable: the server has reloaded the model, or does not count its runs.
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
        """Check, by a reading that starts after this call, that the adopted model is still loaded.

        Concurrent callers share a reading.

        Raises:
            EngineUnavailable: the server has reloaded the model.
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
            raise EngineUnavailable("the Triton server has reloaded the model")

    async def _read(self, tower: str) -> Counters:
        return await self._server.counters(self._models[tower], self._version)
