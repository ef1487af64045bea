"""The worker of a gateway: takes inputs of jobs while interactive requests leave room, and moves jobs on.

Loops, each a task: inputs (as many as the settings allow), heartbeats of their leases, steps of whole jobs, webhooks.
A failure of the database pauses a loop; nothing is lost, because every step is a transaction that can be repeated.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from serve.api.problems import INTERNAL_DETAIL, problem_document
from serve.background import Lane, in_background
from serve.errors import (
    ActserveError,
    DeadlineExceeded,
    EngineFailure,
    FetchFailed,
    RequestError,
    ServiceError,
    StoreUnavailable,
)
from serve.jobs.folder import JobFolder
from serve.jobs.metrics import JobMetrics
from serve.jobs.outgoing import OutgoingClient
from serve.jobs.queue import InputQueue
from serve.jobs.records import Claim, Job, as_json
from serve.jobs.server_folder import folder_input, list_inputs
from serve.jobs.steps import JobSteps
from serve.jobs.store import JobStore
from serve.jobs.webhooks import DeliveryStore, deliver_due
from serve.jobs.work import InputWork
from serve.settings import JobSettings

logger = logging.getLogger(__name__)
Taken = TypeVar("Taken")

POLL_SECONDS = 1.0  # how often work of other gateways is looked for; work of this one wakes the loops
BUSY_PAUSE_SECONDS = 0.02  # before it is checked again whether interactive requests wait
RENEW_SECONDS = 2.0  # at most, between heartbeats: they also bring the news that a job was cancelled
LEASE_SHARE = 0.8  # of a lease without a heartbeat, after which its work stops
SWEEP_SECONDS = 60.0
FIRST_RETRY_SECONDS = 2.0


@dataclass(kw_only=True)
class Running:
    """An input in progress."""

    task: asyncio.Task[None]
    renewed_at: float  # monotonic seconds
    progress: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WorkerParts:
    """What a worker works with."""

    store: JobStore
    queue: InputQueue
    steps: JobSteps
    deliveries: DeliveryStore
    folder: JobFolder
    work: InputWork
    outgoing: OutgoingClient
    metrics: JobMetrics


class JobWorker:
    """Runs jobs in this process."""

    def __init__(self, parts: WorkerParts, settings: JobSettings, *, is_busy: Callable[[], bool], lane: Lane) -> None:
        """`is_busy` says whether interactive requests wait for the decoder or the engine."""
        self._parts = parts
        self._settings = settings
        self._is_busy = is_busy
        self._lane = lane
        self._running: dict[Claim, Running] = {}
        self._inputs_wake = asyncio.Event()
        self._steps_wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._swept_at = float("-inf")

    def start(self) -> None:
        """Start the loops; needs a running event loop."""
        if not self._settings.max_concurrent:
            return
        loops = [self._next_input for _ in range(self._settings.max_concurrent)]
        self._tasks = [
            *(asyncio.create_task(self._repeat(step, self._inputs_wake), name="job-inputs") for step in loops),
            asyncio.create_task(self._repeat(self._next_step, self._steps_wake), name="job-steps"),
            asyncio.create_task(self._repeat(self._next_delivery, self._steps_wake), name="job-webhooks"),
            asyncio.create_task(self._renew_always(), name="job-leases"),
        ]

    def wake(self) -> None:
        """Look for work now."""
        self._inputs_wake.set()
        self._steps_wake.set()

    def stop(self, job_id: str) -> None:
        """Stop work on the inputs of a job that was cancelled."""
        for claim, running in self._running.items():
            if claim.job_id == job_id:
                running.task.cancel()

    async def close(self) -> None:
        """Stop; inputs in progress return to the queue."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, step: Callable[[], Awaitable[bool]], wake: asyncio.Event) -> None:
        """Repeat a step as long as it finds work, and wait for a wake or the poll when there is none."""
        while True:
            wake.clear()
            try:
                if await step():
                    continue
            except StoreUnavailable as error:
                logger.warning("jobs wait for the store: %s", error)
            except Exception:  # a loop that ends would stop all jobs of this gateway
                logger.exception("a step of jobs failed unexpectedly; trying again")
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await wake.wait()
            except TimeoutError:
                pass

    # inputs --------------------------------------------------------------------------------------------------------

    async def _next_input(self) -> bool:
        while self._is_busy():  # noqa: ASYNC110 - decoder and engines tell no event
            await asyncio.sleep(BUSY_PAUSE_SECONDS)
        taking_at = time.monotonic()  # the lease starts later
        queue = self._parts.queue
        claim = await _taken(queue.take, lambda found: queue.give_back(found, counts=False))
        if claim is None:
            return False
        task = asyncio.create_task(self._process(claim), name="job-input")
        self._running[claim] = Running(task=task, renewed_at=taking_at)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:  # the server closes
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if task.cancelled():
                await asyncio.to_thread(self._parts.queue.give_back, claim, counts=False)
            raise
        finally:
            del self._running[claim]
        if task.cancelled():  # the job was cancelled, or the lease was lost
            await asyncio.to_thread(self._parts.queue.give_back, claim, counts=False)
            self._parts.metrics.inputs.labels(claim.kind, "stopped").inc()
        elif (error := task.exception()) is not None:
            raise error
        self._steps_wake.set()
        return True

    async def _process(self, claim: Claim) -> None:
        """Process an input and record how it ends."""
        queue = self._parts.queue
        try:
            result = await self._result(claim)
        except Exception as error:  # recorded or tried again, whatever it is
            is_transient = not isinstance(error, RequestError) or isinstance(error, FetchFailed)
            if is_transient and queue.may_retry(claim):
                delay = FIRST_RETRY_SECONDS * 2 ** (claim.attempt - 1)
                kind = type(error).__name__
                logger.warning("input %d of %s will be tried again after %s", claim.number, claim.job_id, kind)
                await self._record(claim, "retried", lambda: queue.give_back(claim, delay_seconds=delay))
                return
            problem = _problem_of(f"input {claim.number} of {claim.job_id}", error)
            await self._record(claim, "failed", lambda: queue.fail(claim, problem))
        else:
            text = await asyncio.to_thread(as_json, result)
            await self._record(claim, "completed", lambda: queue.complete(claim, text))

    async def _record(self, claim: Claim, outcome: str, write: Callable[[], bool]) -> None:
        """Write how an input ended, however long the store does not answer while the lease lasts."""
        while True:
            try:
                is_recorded = await asyncio.to_thread(write)
                break
            except StoreUnavailable as error:
                logger.warning("the result of an input waits for the store: %s", error)
                await asyncio.sleep(POLL_SECONDS)
        if not is_recorded:
            outcome = "lost"
        elif outcome != "retried" and claim.source == "upload":
            await asyncio.to_thread(self._parts.folder.remove, claim.job_id, claim.place)
        logger.info("input %d of %s: %s, attempt %d", claim.number, claim.job_id, outcome, claim.attempt)
        self._parts.metrics.inputs.labels(claim.kind, outcome).inc()

    async def _result(self, claim: Claim) -> Mapping[str, Any]:
        limit = self._settings.input_deadline_seconds
        deadline = asyncio.get_running_loop().time() + limit

        def progress(seconds: float, total: float) -> None:
            if total > 0 and claim in self._running:
                self._running[claim].progress = min(seconds / total, 1.0)

        try:
            with in_background(self._lane):
                async with asyncio.timeout_at(deadline), self._input_file(claim) as path:
                    return await self._parts.work.run(
                        claim.kind,
                        path,
                        claim.options,
                        name=claim.name,
                        key_id=claim.key_id,
                        deadline=deadline,
                        progress=progress,
                    )
        except TimeoutError as error:
            raise DeadlineExceeded(f"the input was not processed within {limit:g} s", limit_seconds=limit) from error

    @asynccontextmanager
    async def _input_file(self, claim: Claim) -> AsyncIterator[Path]:
        parts = self._parts
        if claim.source == "upload":
            yield parts.folder.path(claim.job_id, claim.place)
        elif claim.source == "folder":
            yield await asyncio.to_thread(folder_input, self._settings.folder_root, claim.place)
        else:
            target = parts.folder.incoming.new()
            try:
                await parts.outgoing.fetch(claim.place, target)
                yield target
            finally:
                await asyncio.to_thread(target.unlink, missing_ok=True)

    # leases --------------------------------------------------------------------------------------------------------

    async def _renew_always(self) -> None:
        while True:
            await asyncio.sleep(min(RENEW_SECONDS, self._settings.lease_seconds / 4))
            try:
                await self._renew()
            except StoreUnavailable as error:
                logger.warning("leases cannot be renewed: %s", error)
                self._stop_unrenewed()
            except Exception:
                logger.exception("leases cannot be renewed")
                self._stop_unrenewed()

    async def _renew(self) -> None:
        renewing_at = time.monotonic()
        progress = {claim: running.progress for claim, running in self._running.items() if not running.task.done()}
        if not progress:
            return
        kept = await asyncio.to_thread(self._parts.queue.renew, progress)
        for claim in progress:
            running = self._running.get(claim)
            if running is None:
                continue
            if claim in kept:
                running.renewed_at = renewing_at
            else:
                running.task.cancel()

    def _stop_unrenewed(self) -> None:
        """Stop work whose lease is about to expire: another gateway will take the input."""
        oldest = time.monotonic() - LEASE_SHARE * self._settings.lease_seconds
        for running in self._running.values():
            if running.renewed_at < oldest:
                running.task.cancel()

    # jobs ----------------------------------------------------------------------------------------------------------

    async def _next_step(self) -> bool:
        parts = self._parts
        await asyncio.to_thread(parts.steps.end_overdue)
        if time.monotonic() - self._swept_at > SWEEP_SECONDS:
            self._swept_at = time.monotonic()
            await asyncio.to_thread(parts.steps.delete_old)
            await asyncio.to_thread(parts.folder.sweep, parts.store.statuses)
        parts.metrics.show(await asyncio.to_thread(parts.queue.facts))
        job = await _taken(parts.steps.take, lambda found: parts.steps.release(found.id))
        if job is None:
            return False
        try:  # a step that fails is repeated when its lease expires, so that other jobs come first
            await (self._validate(job) if job.status == "validating" else self._finalize(job))
        except asyncio.CancelledError:  # the server closes
            await asyncio.to_thread(parts.steps.release, job.id)
            raise
        return True

    async def _validate(self, job: Job) -> None:
        parts = self._parts
        try:
            options = await parts.work.pinned(job.kind, job.options)
            found = None
            if job.folder is not None:
                found = await asyncio.to_thread(
                    list_inputs, self._settings.folder_root, job.folder, max_inputs=self._settings.max_inputs
                )
        except ServiceError:
            raise
        except Exception as error:  # would fail again, and for ever
            await asyncio.to_thread(parts.steps.reject, job.id, _problem_of(job.id, error))
            return
        await asyncio.to_thread(parts.steps.begin, job.id, options=options, found=found)
        self._inputs_wake.set()

    async def _finalize(self, job: Job) -> None:
        await asyncio.to_thread(self._parts.folder.remove, job.id)
        await asyncio.to_thread(self._parts.steps.finalize, job.id)

    async def _next_delivery(self) -> bool:
        secret = self._settings.webhook_secret.get_secret_value()
        if not secret:
            return False
        outcome = await deliver_due(self._parts.deliveries, self._parts.outgoing, secret)
        if outcome is not None:
            self._parts.metrics.webhooks.labels(outcome).inc()
        return outcome is not None


async def _taken(take: Callable[[], Taken | None], give_back: Callable[[Taken], object]) -> Taken | None:
    """Take something in a thread; give it back if the server closes meanwhile, instead of letting its lease expire."""
    taking = asyncio.ensure_future(asyncio.to_thread(take))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        if (found := await taking) is not None:
            await asyncio.to_thread(give_back, found)
        raise


def _problem_of(where: str, error: Exception) -> dict[str, Any]:
    """Return the problem of an error for a caller; the details of internal failures are logged."""
    known = error if isinstance(error, ActserveError) else EngineFailure(str(error))
    problem = problem_document(known)
    if problem["status"] == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s failed", where, exc_info=error)
        problem["detail"] = INTERNAL_DETAIL
    return problem
