"""Jobs of one gateway: the store, the folder of uploads and the worker, as the routes use them."""

import asyncio
import errno
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
from serve.errors import InvalidOption, JobFolderUnavailable, JobsFull, NotEnabled
from serve.files import file_sha256
from serve.jobs.addresses import check_url
from serve.jobs.documents import FolderInput, JobFields, JobInput
from serve.jobs.folder import JobFolder
from serve.jobs.metrics import JobMetrics
from serve.jobs.outgoing import OutgoingClient
from serve.jobs.queue import InputQueue
from serve.jobs.records import FolderRequest, Job, NewInput, NewJob, as_json, new_job_id
from serve.jobs.server_folder import allowed_folder
from serve.jobs.states import FINISHED
from serve.jobs.steps import JobSteps
from serve.jobs.store import JobStore
from serve.jobs.webhooks import DeliveryStore
from serve.jobs.work import InputWork
from serve.jobs.worker import JobWorker, WorkerParts
from serve.settings import ServeSettings
from serve.store.database import Database
from serve.uploads import ReceivedFile

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class GatewayJobs:
    """Creates, cancels and deletes jobs, and works on them."""

    def __init__(
        self,
        database: Database,
        work: InputWork,
        settings: ServeSettings,
        *,
        registry: CollectorRegistry,
        is_busy: Callable[[], bool],
        lane: Lane,
    ) -> None:
        self._database = database
        self._work = work
        self._settings = settings.jobs
        self._outgoing_settings = settings.outgoing
        self._metrics = JobMetrics(registry)
        self._is_busy = is_busy
        self._lane = lane
        path = settings.jobs.dir or settings.data_dir / "jobs"
        self.folder = JobFolder(path.expanduser())
        self._outgoing = OutgoingClient(settings.outgoing)
        self.store = JobStore(
            database,
            max_jobs=settings.jobs.max_jobs,
            max_stored_bytes=settings.jobs.max_stored_bytes,
            deadline_seconds=settings.jobs.deadline_seconds,
        )
        self._worker: JobWorker | None = None

    async def start(self) -> None:
        """Open the folder and start to work.

        Raises:
            ConfigurationError: the folder cannot be used.
        """
        await asyncio.to_thread(self.folder.open)
        settings, storage = self._settings, self.folder.storage
        lease_seconds = settings.lease_seconds
        parts = WorkerParts(
            store=self.store,
            queue=InputQueue(
                self._database,
                owner=f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(6)}",
                storage=storage,
                lease_seconds=lease_seconds,
                max_attempts=settings.max_attempts,
            ),
            steps=JobSteps(
                self._database, storage=storage, lease_seconds=lease_seconds, keep_seconds=settings.keep_seconds
            ),
            deliveries=DeliveryStore(self._database),
            folder=self.folder,
            work=self._work,
            outgoing=self._outgoing,
            metrics=self._metrics,
        )
        self._worker = JobWorker(parts, settings, is_busy=self._is_busy, lane=self._lane)
        self._worker.start()

    async def close(self) -> None:
        """Stop working; inputs in progress return to the queue."""
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
        """Create a job from uploads, which move to the folder of jobs.

        Raises:
            RequestError, ServiceError: see `serve.errors`; nothing was stored.
        """
        await self.check(fields)
        content_hash = None
        if idempotency_key is not None:
            content_hash = await asyncio.to_thread(_hash_of_uploads, fields, files)
        job_id = new_job_id()
        is_stored = False
        try:
            inputs = await asyncio.to_thread(self.folder.adopt, job_id, files)
            new = NewJob(
                id=job_id,
                kind=fields.kind,
                options=fields.options,
                inputs=inputs,
                storage=self.folder.storage,
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

    async def submit(self, wanted: JobInput, *, idempotency_key: str | None, key_id: str | None) -> Job:
        """Create a job whose inputs are in a folder of the server, or at URLs.

        Raises:
            RequestError, ServiceError: see `serve.errors`; nothing was stored.
        """
        await self.check(wanted)
        folder = None if wanted.folder is None else await asyncio.to_thread(self._checked_folder, wanted.folder)
        new = NewJob(
            kind=wanted.kind,
            options=wanted.options,
            inputs=self._checked_urls(wanted.urls or []),
            folder=folder,
            storage=None if folder is None else self.folder.storage,
            webhook_url=wanted.webhook_url,
            idempotency_key=idempotency_key,
            content_hash=_hash(wanted.model_dump(mode="json")),
            key_id=key_id,
        )
        return (await self._create(new))[0]

    async def check(self, fields: JobFields) -> None:
        """Check what a request says before its job is stored.

        Raises:
            RequestError, ServiceError: with what is allowed.
        """
        if fields.webhook_url is not None:
            if not self._settings.webhook_secret.get_secret_value():
                raise NotEnabled(
                    "this server sends no webhooks; its operator enables them by SERVE_JOBS__WEBHOOK_SECRET"
                )
            check_url(fields.webhook_url, self._outgoing_settings)
        await self._work.pinned(fields.kind, fields.options)

    async def require_room(self) -> None:
        """Make sure that another job may be created, before its uploads are read.

        Raises:
            JobsFull: it may not.
        """
        await asyncio.to_thread(self.store.require_room)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job.

        Raises:
            UnknownJob: there is none with this id.
        """
        job = await asyncio.to_thread(self.store.cancel, job_id)
        if self._worker is not None:
            self._worker.stop(job_id)
        if job.status in FINISHED:
            await asyncio.to_thread(self.folder.remove, job_id)
        return job

    async def delete(self, job_id: str) -> bool:
        """Delete a finished job and all it holds; return False if it is not finished.

        Raises:
            UnknownJob: there is none with this id.
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

    def _checked_folder(self, folder: FolderInput) -> FolderRequest:
        wanted = FolderRequest(path=folder.path, pattern=folder.pattern)
        allowed_folder(self._settings.folder_root, wanted)
        return wanted

    def _checked_urls(self, urls: Sequence[str]) -> tuple[NewInput, ...]:
        if not urls:
            return ()
        if not self._outgoing_settings.input_urls:
            raise NotEnabled(
                "this server fetches no URLs; its operator enables them by SERVE_OUTGOING__INPUT_URLS=true"
            )
        if len(urls) > self._settings.max_inputs:
            raise InvalidOption(
                f"{len(urls)} URLs, at most {self._settings.max_inputs} are allowed", limit=self._settings.max_inputs
            )
        for url in urls:
            check_url(url, self._outgoing_settings)
        return tuple(NewInput(name=url, source="url", place=url) for url in urls)


@asynccontextmanager
async def folder_errors() -> AsyncIterator[None]:
    """Translate failures of the disk while uploads of a job are written.

    Raises:
        JobsFull: the disk is full.
        JobFolderUnavailable: the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise JobsFull("the disk of the uploads of jobs is full") from error
        raise JobFolderUnavailable(f"the folder of the uploads of jobs cannot be written: {error.strerror}") from error


def _hash_of_uploads(fields: JobFields, files: Sequence[ReceivedFile]) -> str:
    contents = [[file.filename, file_sha256(Path(file.path))] for file in files]
    return _hash({**fields.model_dump(mode="json"), "files": contents})


def _hash(content: dict[str, Any]) -> str:
    """Return a hash of what a request says, whatever the form it is written in."""
    return hashlib.sha256(as_json(_sorted(content)).encode()).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
