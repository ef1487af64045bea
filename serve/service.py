"""The components of a server without HTTP (decode pool, models, vocabularies, pipeline) and the startup status."""

import asyncio
import logging
from dataclasses import dataclass, field

from serve.access.authorizer import Authorizer
from serve.access.key_store import KeyStore
from serve.access.usage import UsageStore
from serve.admission.concurrency import ConcurrencyLimit
from serve.admission.slots import InferenceSlots
from serve.api.problems import describe
from serve.background import Lane
from serve.data_folder import open_database
from serve.embeddings import Embedder
from serve.errors import ActserveError, EngineUnavailable, FeedbackOff
from serve.feedback.folder import FeedbackFolder
from serve.jobs.processing import InputProcessor
from serve.jobs.service import JobService
from serve.metrics import Metrics
from serve.models.activation import Activation
from serve.models.registry import ModelRegistry
from serve.models.routing import RouteStore
from serve.pipeline import Pipeline
from serve.retrieval.library import VideoLibrary
from serve.settings import ServeSettings
from serve.store.database import Database
from serve.telemetry.collectors import ServerCounts
from serve.timeline.maker import TimelineMaker
from serve.upload_folder import OwnUploadFolder, find_disk_fault
from serve.video.workers import DecodePool
from serve.videos.store import VideoStore
from serve.videos.writer import VideoSaver, VideoSink
from serve.vocabularies.service import VocabularyService

logger = logging.getLogger(__name__)


@dataclass
class StartupStatus:
    """Completed startup steps in order; `fault` is the reason if startup failed."""

    done: list[str] = field(default_factory=list)
    is_ready: bool = False
    fault: str | None = None


class Service:
    """The components of one server and their life cycle."""

    def __init__(
        self, settings: ServeSettings, *, runs_jobs: bool = False, video_sink: VideoSink | None = None
    ) -> None:
        """Create the components; with `runs_jobs`, jobs are accepted and processed.

        `video_sink` receives the videos that requests store, instead of the database.
        """
        self.settings = settings
        self._runs_jobs = runs_jobs
        self._video_sink = video_sink
        self.metrics = Metrics()
        self.readiness = StartupStatus()
        self.pool = DecodePool(settings.decode)
        self.registry = ModelRegistry(settings)
        self._database: Database | None = None
        self._vocabularies: VocabularyService | None = None
        self._activation: Activation | None = None
        self._pipeline: Pipeline | None = None
        self._feedback: FeedbackFolder | None = None
        self._authorizer: Authorizer | None = None
        self._timelines: TimelineMaker | None = None
        self._processor: InputProcessor | None = None
        self._jobs: JobService | None = None
        self._library: VideoLibrary | None = None
        self._embedder = Embedder(self.pool, self.registry, settings.limits)
        self.lane = Lane()
        self.slots = InferenceSlots(
            max_requests=settings.limits.max_in_flight,
            max_waiting_views=settings.batch.max_queued_views,
            running_views=settings.decode.worker_count() + 2 * settings.batch.max_views,
            gauge=self.metrics.in_flight,
        )
        self.timelines_in_flight = ConcurrencyLimit(
            settings.timeline.max_concurrent, self.metrics.timelines_in_flight, noun="timelines"
        )
        self.job_uploads = ConcurrencyLimit(settings.jobs.max_uploads, self.metrics.job_uploads, noun="uploads of jobs")
        self.event_streams = ConcurrencyLimit(
            settings.jobs.max_event_streams, self.metrics.event_streams, noun="streams of events"
        )
        self.large_changes = asyncio.Semaphore(1)  # parsing takes about ten times the memory of the body
        self.is_stopping = False  # readiness is off, and open-ended responses, such as event streams, end
        self.uploads = OwnUploadFolder(settings.upload_dir)
        if self.uploads.num_swept:
            logger.info("deleted the upload folders of %d servers that were killed", self.uploads.num_swept)

    async def start(self) -> None:
        """Start the decode children, load and check the model, and encode its default vocabulary.

        Raises:
            ContractError, UnknownModel: the model cannot be served.
            ConfigurationError: the feedback folder or the database cannot be used.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_pool())
                group.create_task(self._start_models())
                group.create_task(self._start_feedback())
        except BaseExceptionGroup as failures:
            first = failures.exceptions[0]
            self.readiness.fault = str(first)
            raise first from None
        await self._start_jobs()
        self.readiness.is_ready = True
        logger.info("ready: %s", ", ".join(runtime.reference for runtime in self.registry.active()))

    async def _start_pool(self) -> None:
        await self.pool.start()
        self.readiness.done.append("decode children started")

    async def _start_feedback(self) -> None:
        settings = self.settings.feedback
        if settings.enabled:
            path = self.settings.feedback_folder
            folder = FeedbackFolder(path, max_bytes=settings.max_bytes, max_clips=settings.max_clips)
            await asyncio.to_thread(folder.open)
            self._feedback = folder
            self.readiness.done.append("feedback folder opened")

    async def _start_jobs(self) -> None:
        """Start the processing of jobs after all components that it uses have started."""
        if not self._runs_jobs:
            return
        assert self._database is not None and self._processor is not None, "created by _start_models"
        self._jobs = JobService(
            self._database,
            self._processor,
            self.settings,
            registry=self.metrics.registry,
            is_busy=self._has_waiting_requests,
            lane=self.lane,
        )
        try:
            await self._jobs.start()
        except ActserveError as error:
            self.readiness.fault = str(error)
            raise
        self.readiness.done.append("jobs opened")

    async def _start_models(self) -> None:
        database = self._database = open_database(self.settings)
        await asyncio.to_thread(database.migrate)
        authorizer = Authorizer(KeyStore(database), UsageStore(database), self.settings)
        await authorizer.check_start()
        self._authorizer = authorizer
        vocabularies = VocabularyService(
            database, self.registry, pool=self.pool, folder=self.uploads, settings=self.settings
        )
        store = RouteStore(database, configured=self.settings.model)
        self._activation = Activation(self.registry, store, settings=self.settings, vocabularies=vocabularies)
        await self._activation.start()
        runtime = self.registry.get(None)
        self.readiness.done.append(f"{runtime.reference} loaded, verified and warmed up on {runtime.engine.name}")
        await vocabularies.start()
        self._activation.watch(poll_seconds=self.settings.vocabularies.poll_seconds)
        self._vocabularies = vocabularies
        videos = VideoStore(database, max_bytes=self.settings.videos.max_bytes)
        saver = VideoSaver(
            self._video_sink or videos,
            self.settings.videos,
            deadline_seconds=self.settings.timeline.deadline_seconds,
        )
        self._pipeline = Pipeline(self.pool, self.registry, vocabularies, saver=saver, settings=self.settings)
        self._timelines = TimelineMaker(self.pool, self._pipeline, self.settings.timeline, saver=saver)
        self._library = VideoLibrary(
            videos, self._pipeline, self.registry, pool=self.pool, settings=self.settings.videos
        )
        self._library.start()
        self._processor = InputProcessor(self._pipeline, self._timelines, self._embedder, self.metrics)
        self.readiness.done.append(
            f"vocabulary {vocabularies.catalogue.default_for(runtime.contract).reference} encoded"
        )

    @property
    def pipeline(self) -> Pipeline:
        """The classification pipeline.

        Raises:
            EngineUnavailable: startup is not complete.
        """
        if self._pipeline is None or not self.readiness.is_ready:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._pipeline

    @property
    def authorizer(self) -> Authorizer:
        """The authorizer; it is available before the models are loaded.

        Raises:
            EngineUnavailable: the database is not open yet.
        """
        if self._authorizer is None:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._authorizer

    @property
    def timelines(self) -> TimelineMaker:
        """The timeline maker.

        Raises:
            EngineUnavailable: startup is not complete.
        """
        if self._timelines is None or not self.readiness.is_ready:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._timelines

    @property
    def library(self) -> VideoLibrary:
        """The stored videos.

        Raises:
            EngineUnavailable: startup is not complete.
        """
        if self._library is None or not self.readiness.is_ready:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._library

    @property
    def embedder(self) -> Embedder:
        """The embedder.

        Raises:
            EngineUnavailable: startup is not complete.
        """
        if not self.readiness.is_ready:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._embedder

    @property
    def input_processor(self) -> InputProcessor:
        """The processor of inputs of all job kinds.

        Raises:
            EngineUnavailable: startup is not complete.
        """
        if self._processor is None or not self.readiness.is_ready:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._processor

    @property
    def jobs(self) -> JobService:
        """The jobs of this server.

        Raises:
            EngineUnavailable: startup is not complete.
        """
        if self._jobs is None or not self.readiness.is_ready:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._jobs

    @property
    def vocabularies(self) -> VocabularyService:
        """The vocabularies.

        Raises:
            EngineUnavailable: no model is loaded yet.
        """
        if self._vocabularies is None:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._vocabularies

    @property
    def activation(self) -> Activation:
        """The activation of model versions.

        Raises:
            EngineUnavailable: startup is not complete.
        """
        if self._activation is None or not self.readiness.is_ready:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._activation

    @property
    def feedback(self) -> FeedbackFolder:
        """The folder of feedback clips.

        Raises:
            FeedbackOff: feedback is disabled.
            EngineUnavailable: startup is not complete.
        """
        if not self.settings.feedback.enabled:
            raise FeedbackOff(
                "feedback is disabled on this server; its operator can enable it with SERVE_FEEDBACK__ENABLED=true"
            )
        if self._feedback is None or not self.readiness.is_ready:
            raise EngineUnavailable("the server is starting; see /readyz")
        return self._feedback

    @property
    def degraded(self) -> list[str]:
        """Reasons why components other than classification currently do not work."""
        reasons = []
        if self._vocabularies is not None and self._vocabularies.follower.fault is not None:
            reasons.append(f"vocabularies can be read but not changed: {self._vocabularies.follower.fault}")
        if self._activation is not None and self._activation.fault is not None:
            reasons.append(self._activation.fault)
        return reasons

    async def find_degraded(self) -> list[str]:
        """Return `degraded`, the folders of this server that cannot be written now, and a fault of access."""
        folders = [(self.uploads.folder, "uploads")]
        if not self.settings.store_url.get_secret_value():
            folders.append((self.settings.data_dir.expanduser(), "database"))
        faults = [await asyncio.to_thread(find_disk_fault, folder, content) for folder, content in folders]
        return self.degraded + [fault for fault in (*faults, self.authorizer.fault) if fault is not None]

    def _has_waiting_requests(self) -> bool:
        """Whether interactive requests wait for a slot, the decoder or an engine."""
        return (
            self.slots.num_waiting > 0
            or self.pool.waiting > 0
            or any(runtime.engine.queued_views for runtime in self.registry.active())
        )

    @property
    def engines(self) -> dict[str, str]:
        """The engine of each active model version."""
        return {runtime.reference: runtime.engine.name for runtime in self.registry.active()}

    @property
    def not_ready_reason(self) -> str | None:
        """Why the server cannot serve requests; None if it can."""
        faults = [runtime.engine.fault for runtime in self.registry.active() if runtime.engine.fault is not None]
        if self.is_stopping:
            return "the server is stopping"
        if self.readiness.fault is not None:
            return self.readiness.fault
        if not self.readiness.is_ready:
            return "the server is starting"
        if faults:
            return faults[0]
        return None if self.pool.pids else "the decode processes have exited"

    def counts(self) -> ServerCounts:
        """Return the figures of the components for the metrics."""
        activation, vocabularies = self._activation, self._vocabularies
        return ServerCounts(
            is_ready=self.not_ready_reason is None,
            engines=self.engines,
            queued_views=sum(runtime.engine.queued_views for runtime in self.registry.loaded()),
            batch_sizes=self.registry.batch_sizes(),
            decodes_waiting=self.pool.waiting,
            decodes_running=self.pool.running,
            decode_failures={describe(error)[0]: number for error, number in self.pool.failures.items()},
            decode_faults=self.pool.faults,
            decode_children_replaced=self.pool.restarts,
            activations={} if activation is None else dict(activation.outcomes),
            encodings={} if vocabularies is None else dict(vocabularies.queue.outcomes),
            encoding_seconds=0.0 if vocabularies is None else vocabularies.queue.encoding_seconds,
            encodings_queued=0 if vocabularies is None else vocabularies.queue.num_queued,
        )

    async def close(self) -> None:
        """Stop all components and delete unfinished uploads."""
        self.readiness.is_ready = False
        self.is_stopping = True
        if self._jobs is not None:
            await self._jobs.close()
        if self._activation is not None:
            await self._activation.close()
        await self.pool.close()
        if self._library is not None:
            await self._library.close()
        if self._vocabularies is not None:
            await self._vocabularies.close()
        await self.registry.close()
        if self._database is not None:
            await asyncio.to_thread(self._database.close)
        await asyncio.to_thread(self.uploads.close)
