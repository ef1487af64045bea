"""Jobs of this server process: the interface of the routes to the job store, the upload folder and the worker."""

import asyncio
import hashlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from serve.background import Lane
from serve.errors import DiskFull, FolderUnavailable, InvalidOption, JobFolderUnavailable, JobsFull, NotEnabled
from serve.files import file_sha256
from serve.jobs.addresses import check_url
from serve.jobs.documents import FolderInput, JobFields, JobInput
from serve.jobs.folder import JobFolder
from serve.jobs.metrics import JobMetrics
from serve.jobs.outgoing import OutgoingClient
from serve.jobs.processing import InputProcessor
from serve.jobs.queue import InputQueue
from serve.jobs.records import FolderRequest, Job, NewInput, NewJob, as_json, new_job_id
from serve.jobs.server_folder import resolve_folder
from serve.jobs.states import FINISHED
from serve.jobs.steps import JobSteps
from serve.jobs.store import JobStore
from serve.jobs.webhooks import DeliveryStore
from serve.jobs.worker import JobWorker, WorkerComponents
from serve.settings import ServeSettings
from serve.store.database import Database
from serve.upload_folder import NO_ROOM
from serve.uploads import ReceivedFile


class JobService:
    """Creates, cancels and deletes jobs, and processes them in the background."""

    def __init__(
        self,
        database: Database,
        processor: InputProcessor,
        settings: ServeSettings,
        *,
        registry: CollectorRegistry,
        is_busy: Callable[[], bool],
        lane: Lane,
    ) -> None:
        self._database = database
        self._processor = processor
        self._settings = settings.jobs
        self._outgoing_settings = settings.outgoing
        self._metrics = JobMetrics(registry)
        self._is_busy = is_busy
        self._lane = lane
        self.folder = JobFolder(settings.jobs_folder)
        self._outgoing = OutgoingClient(settings.outgoing)
        self.store = JobStore(
            database,
            max_jobs=settings.jobs.max_jobs,
            max_stored_bytes=settings.jobs.max_stored_bytes,
            deadline_seconds=settings.jobs.deadline_seconds,
        )
        self._worker: JobWorker | None = None

    async def start(self) -> None:
        """Open the upload folder and start the worker.

        Raises:
            ConfigurationError: the folder cannot be used.
        """
        await asyncio.to_thread(self.folder.open)
        settings, storage_id = self._settings, self.folder.storage_id
        lease_seconds = settings.lease_seconds
        components = WorkerComponents(
            store=self.store,
            queue=InputQueue(
                self._database,
                worker_id=f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(6)}",
                storage_id=storage_id,
                lease_seconds=lease_seconds,
                max_attempts=settings.max_attempts,
            ),
            steps=JobSteps(
                self._database, storage_id=storage_id, lease_seconds=lease_seconds, keep_seconds=settings.keep_seconds
            ),
            deliveries=DeliveryStore(self._database),
            folder=self.folder,
            processor=self._processor,
            outgoing=self._outgoing,
            metrics=self._metrics,
        )
        self._worker = JobWorker(components, settings, is_busy=self._is_busy, lane=self._lane)
        self._worker.start()

    async def close(self) -> None:
        """Stop the worker; inputs in progress return to the queue."""
        if self._worker is not None:
            await self._worker.close()
        await self._outgoing.close()

    async def submit_uploads(
        self,
        fields: JobFields,
        files: Sequence[ReceivedFile],
        *,
        idempotency_key: str | None,
        key_id: str | None,
    ) -> Job:
        """Create a job from uploads, which are moved to the upload folder.

        Raises:
            RequestError, ServiceError: the request is not valid or cannot be stored; nothing was stored.
        """
        await self.check(fields)
        content_hash = None
        if idempotency_key is not None:
            content_hash = await asyncio.to_thread(_hash_uploads, fields, files)
        job_id = new_job_id()
        is_stored = False
        try:
            inputs = await asyncio.to_thread(self.folder.adopt, job_id, files)
            new = NewJob(
                id=job_id,
                kind=fields.kind,
                options=fields.options,
                inputs=inputs,
                storage_id=self.folder.storage_id,
                webhook_url=fields.webhook_url,
                idempotency_key=idempotency_key,
                content_hash=content_hash,
                key_id=key_id,
            )
            job, is_stored = await self._create(new)
            return job
        finally:
            if not is_stored:
                await asyncio.to_thread(self.folder.remove, job_id)

    async def submit(self, job_input: JobInput, *, idempotency_key: str | None, key_id: str | None) -> Job:
        """Create a job whose inputs are in a folder on the server or at URLs.

        Raises:
            RequestError, ServiceError: the request is not valid or cannot be stored; nothing was stored.
        """
        await self.check(job_input)
        folder = None if job_input.folder is None else await asyncio.to_thread(self._check_folder, job_input.folder)
        new = NewJob(
            kind=job_input.kind,
            options=job_input.options,
            inputs=self._check_urls(job_input.urls or []),
            folder=folder,
            storage_id=None if folder is None else self.folder.storage_id,
            webhook_url=job_input.webhook_url,
            idempotency_key=idempotency_key,
            content_hash=_hash(job_input.model_dump(mode="json")),
            key_id=key_id,
        )
        return (await self._create(new))[0]

    async def check(self, fields: JobFields) -> None:
        """Check the fields of a request before its job is stored.

        Raises:
            RequestError, ServiceError: a field is not valid, or a model or vocabulary is not available.
        """
        if fields.webhook_url is not None:
            if not self._settings.webhook_secret.get_secret_value():
                raise NotEnabled(
                    "this server does not send webhooks; the operator can enable them with SERVE_JOBS__WEBHOOK_SECRET"
                )
            check_url(fields.webhook_url, self._outgoing_settings)
        await self._processor.pin_options(fields.kind, fields.options)

    async def require_room(self) -> None:
        """Check that another job may be created; called before its uploads are received.

        Raises:
            JobsFull: the limit of jobs or of stored bytes is reached.
        """
        await asyncio.to_thread(self.store.require_room)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job.

        Raises:
            UnknownJob: there is no job with this id.
        """
        job = await asyncio.to_thread(self.store.cancel, job_id)
        if self._worker is not None:
            self._worker.stop(job_id)
        if job.status in FINISHED:
            await asyncio.to_thread(self.folder.remove, job_id)
        return job

    async def delete(self, job_id: str) -> bool:
        """Delete a finished job with its inputs and results; return False if it is not finished.

        Raises:
            UnknownJob: there is no job with this id.
        """
        is_deleted = await asyncio.to_thread(self.store.delete, job_id)
        if is_deleted:
            await asyncio.to_thread(self.folder.remove, job_id)
        return is_deleted

    async def _create(self, new: NewJob) -> tuple[Job, bool]:
        created = await asyncio.to_thread(self.store.create, new)
        if self._worker is not None:
            self._worker.wake()
        return created

    def _check_folder(self, folder: FolderInput) -> FolderRequest:
        request = FolderRequest(path=folder.path, pattern=folder.pattern)
        resolve_folder(self._settings.folder_root, request)
        return request

    def _check_urls(self, urls: Sequence[str]) -> tuple[NewInput, ...]:
        if not urls:
            return ()
        if not self._outgoing_settings.input_urls:
            raise NotEnabled(
                "this server does not fetch URLs; the operator can enable them with SERVE_OUTGOING__INPUT_URLS=true"
            )
        if len(urls) > self._settings.max_inputs:
            raise InvalidOption(
                f"{len(urls)} URLs were sent; at most {self._settings.max_inputs} are allowed",
                limit=self._settings.max_inputs,
            )
        for url in urls:
            check_url(url, self._outgoing_settings)
        return tuple(NewInput(name=url, source="url", location=url) for url in urls)


@asynccontextmanager
async def translate_disk_errors() -> AsyncIterator[None]:
    """Translate disk errors that occur while the uploads of a job are written.

    Raises:
        JobsFull: the disk is full.
        JobFolderUnavailable: the upload folder is not writable.
    """
    try:
        yield
    except DiskFull as error:
        raise JobsFull("the disk for job uploads is full") from error
    except FolderUnavailable as error:
        raise JobFolderUnavailable("the folder for job uploads cannot be written") from error
    except OSError as error:
        if error.errno in NO_ROOM:
            raise JobsFull("the disk for job uploads is full") from error
        raise JobFolderUnavailable(f"the folder for job uploads cannot be written: {error.strerror}") from error


def _hash_uploads(fields: JobFields, files: Sequence[ReceivedFile]) -> str:
    contents = [[file.filename, file_sha256(Path(file.path))] for file in files]
    return _hash({**fields.model_dump(mode="json"), "files": contents})


def _hash(content: dict[str, Any]) -> str:
    """Return a hash of the parsed content of a request, which does not depend on the order of its fields."""
    return hashlib.sha256(as_json(_sort_keys(content)).encode()).hexdigest()


def _sort_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sort_keys(value[key]) for key in sorted(value)}
    return [_sort_keys(item) for item in value] if isinstance(value, list) else value
