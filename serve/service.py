"""Everything a server runs beside HTTP: decode pool, models, vocabularies, pipeline; and how far its start has come."""

import asyncio
import logging
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from serve.errors import EngineUnavailable
from serve.metrics import Metrics
from serve.models.registry import ModelRegistry
from serve.pipeline import Pipeline
from serve.settings import ServeSettings
from serve.store.database import Database, sqlite_url
from serve.uploads import UploadFolder
from serve.video.workers import DecodePool
from serve.vocabularies.catalogue import Catalogue

logger = logging.getLogger(__name__)


@dataclass
class Readiness:
    """What has been done of the start, in order; `fault` says why it stopped."""

    done: list[str] = field(default_factory=list)
    is_ready: bool = False
    fault: str | None = None


class Service:
    """The working parts of one server."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.readiness = Readiness()
        self.pool = DecodePool(settings.decode)
        self.registry = ModelRegistry(settings)
        self._database: Database | None = None
        self._catalogue: Catalogue | None = None
        self._pipeline: Pipeline | None = None
        self.in_flight = 0  # classifications under way
        self.uploads = UploadFolder(Path(tempfile.mkdtemp(prefix="actserve-", dir=settings.upload_dir)))

    async def start(self) -> None:
        """Start the decode children, load and check the model, encode its default vocabulary.

        Raises:
            ContractError, UnknownModel: the model cannot be served.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_pool())
                group.create_task(self._start_models())
        except BaseExceptionGroup as failures:
            first = failures.exceptions[0]
            self.readiness.fault = str(first)
            raise first from None
        self.readiness.is_ready = True
        logger.info("ready: %s", ", ".join(runtime.reference for runtime in self.registry.active()))

    async def _start_pool(self) -> None:
        await self.pool.start()
        self.readiness.done.append("decode children started")

    async def _start_models(self) -> None:
        await self.registry.start()
        runtime = self.registry.get(None)
        self.readiness.done.append(f"{runtime.reference} loaded, verified and warm on {runtime.engine.label}")
        url = self.settings.store_url.get_secret_value()
        self._database = Database(url or sqlite_url(self.settings.data_dir.expanduser() / "actserve.db"))
        catalogue = Catalogue(
            self._database, self.registry, pool=self.pool, folder=self.uploads, settings=self.settings
        )
        await catalogue.start()
        self._catalogue = catalogue
        self._pipeline = Pipeline(self.pool, self.registry, catalogue, settings=self.settings)
        self.readiness.done.append(f"vocabulary {catalogue.default_for(runtime.contract).reference} encoded")

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline, once the start has come to its end.

        Raises:
            EngineUnavailable: it has not.
        """
        if self._pipeline is None or not self.readiness.is_ready:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._pipeline

    @property
    def catalogue(self) -> Catalogue:
        """The vocabularies.

        Raises:
            EngineUnavailable: no model is loaded yet.
        """
        if self._catalogue is None:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._catalogue

    def refresh_gauges(self) -> None:
        """Bring the gauges of `/metrics` up to date."""
        engines = [runtime.engine for runtime in self.registry.active()]
        self.metrics.queued_views.set(sum(engine.queued_views for engine in engines))
        self.metrics.decode_restarts.set(self.pool.restarts)
        self.metrics.batches.set(sum(engine.batches[0] for engine in engines))
        self.metrics.batched_views.set(sum(engine.batches[1] for engine in engines))

    async def close(self) -> None:
        """Stop everything; uploads under way are deleted."""
        self.readiness.is_ready = False
        await self.pool.close()
        if self._catalogue is not None:
            await self._catalogue.close()
        await self.registry.close()
        if self._database is not None:
            await asyncio.to_thread(self._database.close)
        await asyncio.to_thread(shutil.rmtree, self.uploads.folder, ignore_errors=True)
