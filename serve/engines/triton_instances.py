"""Detect from the statistics of a Triton server that it has reloaded a model.

A server reports neither when it loaded a model version nor from which file. The counters of a loaded version never
decrease, and they restart at zero when it is loaded again: by a restart, by the repository API or by polling. A reload
would be missed only if every counter, including the compute time, exceeded its previous value before the next reading.
This cannot happen, because readings are taken after every call and twice a second.
"""

import asyncio
from collections.abc import Mapping

from serve.engines.triton_client import ModelStatistics, TritonClient
from serve.errors import EngineUnavailable

COUNT_SECONDS = 5.0  # timeout for the server to count a run, which it does shortly after the response
COUNT_POLL_SECONDS = 0.01


class LoadedInstances:
    """The models that the server has loaded for one model version; `confirm` raises if one of them was reloaded."""

    def __init__(self, client: TritonClient, models: Mapping[str, str], version: int) -> None:
        self._client = client
        self._models = models  # tower -> name of its model on the server
        self._version = version
        self._counters: dict[str, ModelStatistics] = {}  # by tower, from the last reading
        self._locks = {tower: asyncio.Lock() for tower in models}
        self._readings_started = dict.fromkeys(models, 0)  # by tower
        self._last_reading = dict.fromkeys(models, 0)  # by tower, number of the last completed reading
        self.epoch = 0  # incremented whenever the loaded models may have changed

    def invalidate(self) -> None:
        """Start a new epoch, because the loaded models are unknown, e.g. after a disconnect."""
        self.epoch += 1

    async def adopt(self) -> int:
        """Make the currently loaded models the reference and start a new epoch; return it.

        Raises:
            ServiceError: the server does not respond, or it has no statistics of this version.
        """
        self._counters = {tower: await self._read(tower) for tower in self._models}
        self.epoch += 1
        return self.epoch

    async def confirm_run(self, tower: str) -> None:
        """Call `confirm` after a run, and repeat it until the counters include a run.

        The counters are then greater than zero, so a later reload can be detected.

        Raises:
            EngineUnavailable: the server has reloaded the model, or it does not count its runs.
            ServiceError: see `adopt`.
        """
        await self.confirm(tower)
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                while self._counters[tower].inferences == 0:
                    await asyncio.sleep(COUNT_POLL_SECONDS)
                    await self.confirm(tower)
        except TimeoutError as error:
            raise EngineUnavailable("the Triton server does not count its runs") from error

    async def confirm(self, tower: str) -> None:
        """Check that the adopted model is still loaded, with a reading that starts after this call.

        Concurrent calls share a reading.

        Raises:
            EngineUnavailable: the server has reloaded the model.
            ServiceError: see `adopt`.
        """
        started, epoch = self._readings_started[tower], self.epoch
        async with self._locks[tower]:
            if self._last_reading[tower] <= started:
                self._readings_started[tower] += 1
                counters = await self._read(tower)
                self._last_reading[tower] = self._readings_started[tower]
                if self.epoch == epoch and not counters.is_continuation_of(self._counters[tower]):
                    self.epoch += 1
                if self.epoch == epoch:
                    self._counters[tower] = counters
        if self.epoch != epoch:
            raise EngineUnavailable("the Triton server has reloaded the model")

    async def _read(self, tower: str) -> ModelStatistics:
        """Read the counters of a tower's model."""
        return await self._client.statistics(self._models[tower], self._version)
