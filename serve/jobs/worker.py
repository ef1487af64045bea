"""The background worker of a server process: processes inputs of jobs while no interactive requests are waiting.

It runs these loops, each in a task: inputs (`max_concurrent` tasks), heartbeats of their leases, state changes of jobs
and webhooks. A database failure pauses a loop; nothing is lost, because every step is a transaction that can be
repeated.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from serve.background import Lane, in_background
from serve.errors import (
    DeadlineExceeded,
    FetchFailed,
    RequestError,
    ServiceError,
    StoreUnavailable,
)
from serve.jobs.folder import JobFolder
from serve.jobs.metrics import JobMetrics
from serve.jobs.outgoing import OutgoingClient
from serve.jobs.processing import InputProcessor
from serve.jobs.queue import InputQueue
from serve.jobs.records import Claim, Job, as_json
from serve.jobs.results import to_problem
from serve.jobs.server_folder import list_inputs, resolve_input
from serve.jobs.steps import JobSteps
from serve.jobs.store import JobStore
from serve.jobs.webhooks import DeliveryStore, deliver_due
from serve.settings import JobSettings

logger = logging.getLogger(__name__)
Leased = TypeVar("Leased")

POLL_SECONDS = 1.0  # interval at which jobs of other processes are detected; jobs of this process wake the loops
BUSY_POLL_SECONDS = 0.02  # interval at which waiting interactive requests are checked
MAX_RENEW_SECONDS = 2.0  # longest interval between heartbeats, which also detect that a job was cancelled
STALE_LEASE_FRACTION = 0.8  # an input is stopped if its lease was not renewed for this fraction of the lease time
SWEEP_SECONDS = 60.0
FIRST_RETRY_SECONDS = 2.0


@dataclass(kw_only=True)
class RunningInput:
    """An input that is being processed."""

    task: asyncio.Task[None]
    renewed_at: float  # monotonic seconds
    progress: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WorkerComponents:
    """The components that a worker uses."""

    store: JobStore
    queue: InputQueue
    steps: JobSteps
    deliveries: DeliveryStore
    folder: JobFolder
    processor: InputProcessor
    outgoing: OutgoingClient
    metrics: JobMetrics


class JobWorker:
    """Processes jobs in this process."""

    def __init__(
        self, components: WorkerComponents, settings: JobSettings, *, is_busy: Callable[[], bool], lane: Lane
    ) -> None:
        """`is_busy` returns whether interactive requests are waiting for the decoder or the engine."""
        self._components = components
        self._settings = settings
        self._is_busy = is_busy
        self._lane = lane
        self._running: dict[Claim, RunningInput] = {}
        self._inputs_wake = asyncio.Event()
        self._steps_wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._swept_at = float("-inf")

    def start(self) -> None:
        """Start the loops as tasks of the running event loop."""
        if not self._settings.max_concurrent:
            return
        loops = [self._next_input for _ in range(self._settings.max_concurrent)]
        self._tasks = [
            *(asyncio.create_task(self._repeat(step, self._inputs_wake), name="job-inputs") for step in loops),
            asyncio.create_task(self._repeat(self._next_step, self._steps_wake), name="job-steps"),
            asyncio.create_task(self._repeat(self._next_delivery, self._steps_wake), name="job-webhooks"),
            asyncio.create_task(self._renew_periodically(), name="job-leases"),
        ]

    def wake(self) -> None:
        """Make the loops check for work now."""
        self._inputs_wake.set()
        self._steps_wake.set()

    def stop(self, job_id: str) -> None:
        """Stop processing the inputs of a cancelled job."""
        for claim, running in self._running.items():
            if claim.job_id == job_id:
                running.task.cancel()

    async def close(self) -> None:
        """Stop the loops; inputs in progress return to the queue."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, step: Callable[[], Awaitable[bool]], wake: asyncio.Event) -> None:
        """Repeat a step as long as it returns True; otherwise wait for `wake` or for `POLL_SECONDS`."""
        while True:
            wake.clear()
            try:
                if await step():
                    continue
            except StoreUnavailable as error:
                logger.warning("jobs are paused, the database is unavailable: %s", error)
            except Exception:  # the loop must go on: without it, this process would process no more jobs
                logger.exception("a step of the job worker failed unexpectedly; it will be retried")
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await wake.wait()
            except TimeoutError:
                pass

    # inputs --------------------------------------------------------------------------------------------------------

    async def _next_input(self) -> bool:
        while self._is_busy():  # noqa: ASYNC110 - decoder and engines have no event to wait for
            await asyncio.sleep(BUSY_POLL_SECONDS)
        leased_at = time.monotonic()  # slightly before the lease starts
        queue = self._components.queue
        claim = await _take_or_give_back(queue.take, lambda leased: queue.give_back(leased, count_attempt=False))
        if claim is None:
            return False
        task = asyncio.create_task(self._process(claim), name="job-input")
        self._running[claim] = RunningInput(task=task, renewed_at=leased_at)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:  # the server stops
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if task.cancelled():
                await asyncio.to_thread(self._components.queue.give_back, claim, count_attempt=False)
            raise
        finally:
            del self._running[claim]
        if task.cancelled():  # the job was cancelled, or the lease was lost
            await asyncio.to_thread(self._components.queue.give_back, claim, count_attempt=False)
            self._components.metrics.inputs.labels(claim.kind, "stopped").inc()
        elif (error := task.exception()) is not None:
            raise error
        self._steps_wake.set()
        return True

    async def _process(self, claim: Claim) -> None:
        """Process an input and record its result."""
        queue = self._components.queue
        try:
            result = await self._compute_result(claim)
        except Exception as error:  # every error is recorded, or the input is retried
            is_transient = not isinstance(error, RequestError) or isinstance(error, FetchFailed)
            if is_transient and queue.may_retry(claim):
                delay = FIRST_RETRY_SECONDS * 2 ** (claim.attempt - 1)
                kind = type(error).__name__
                logger.warning("input %d of %s failed with %s and will be retried", claim.index, claim.job_id, kind)
                await self._record(claim, "retried", lambda: queue.give_back(claim, delay_seconds=delay))
                return
            problem = to_problem(f"input {claim.index} of {claim.job_id}", error)
            await self._record(claim, "failed", lambda: queue.fail(claim, problem))
        else:
            text = await asyncio.to_thread(as_json, result)
            await self._record(claim, "completed", lambda: queue.complete(claim, text))

    async def _record(self, claim: Claim, outcome: str, write: Callable[[], bool]) -> None:
        """Record the outcome of an input; retry while the database is unavailable."""
        while True:
            try:
                is_recorded = await asyncio.to_thread(write)
                break
            except StoreUnavailable as error:
                logger.warning("the result of an input cannot be recorded, retrying: %s", error)
                await asyncio.sleep(POLL_SECONDS)
        if not is_recorded:
            outcome = "lost"
        elif outcome != "retried" and claim.source == "upload":
            await asyncio.to_thread(self._components.folder.remove, claim.job_id, claim.location)
        logger.info("input %d of %s: %s, attempt %d", claim.index, claim.job_id, outcome, claim.attempt)
        self._components.metrics.inputs.labels(claim.kind, outcome).inc()

    async def _compute_result(self, claim: Claim) -> Mapping[str, Any]:
        limit = self._settings.input_deadline_seconds
        deadline = asyncio.get_running_loop().time() + limit

        def progress(seconds: float, total: float) -> None:
            if total > 0 and claim in self._running:
                self._running[claim].progress = min(seconds / total, 1.0)

        try:
            with in_background(self._lane):
                async with asyncio.timeout_at(deadline), self._input_file(claim) as path:
                    return await self._components.processor.run(
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
        components = self._components
        if claim.source == "upload":
            yield components.folder.path(claim.job_id, claim.location)
        elif claim.source == "folder":
            yield await asyncio.to_thread(resolve_input, self._settings.folder_root, claim.location)
        else:
            target = components.folder.incoming.new()
            try:
                await components.outgoing.fetch(claim.location, target)
                yield target
            finally:
                await asyncio.to_thread(target.unlink, missing_ok=True)

    # leases --------------------------------------------------------------------------------------------------------

    async def _renew_periodically(self) -> None:
        while True:
            await asyncio.sleep(min(MAX_RENEW_SECONDS, self._settings.lease_seconds / 4))
            try:
                await self._renew()
            except StoreUnavailable as error:
                logger.warning("leases of job inputs cannot be renewed: %s", error)
                self._stop_stale_inputs()
            except Exception:
                logger.exception("leases of job inputs cannot be renewed")
                self._stop_stale_inputs()

    async def _renew(self) -> None:
        renewed_at = time.monotonic()
        progress = {claim: running.progress for claim, running in self._running.items() if not running.task.done()}
        if not progress:
            return
        renewed = await asyncio.to_thread(self._components.queue.renew, progress)
        for claim in progress:
            running = self._running.get(claim)
            if running is None:
                continue
            if claim in renewed:
                running.renewed_at = renewed_at
            else:
                running.task.cancel()

    def _stop_stale_inputs(self) -> None:
        """Stop inputs whose lease is about to expire, because another process will then take them."""
        limit = time.monotonic() - STALE_LEASE_FRACTION * self._settings.lease_seconds
        for running in self._running.values():
            if running.renewed_at < limit:
                running.task.cancel()

    # jobs ----------------------------------------------------------------------------------------------------------

    async def _next_step(self) -> bool:
        components = self._components
        await asyncio.to_thread(components.steps.end_overdue)
        if time.monotonic() - self._swept_at > SWEEP_SECONDS:
            self._swept_at = time.monotonic()
            await asyncio.to_thread(components.steps.delete_old)
            await asyncio.to_thread(components.folder.sweep, components.store.statuses)
        components.metrics.update(await asyncio.to_thread(components.queue.statistics))
        job = await _take_or_give_back(components.steps.take, lambda leased: components.steps.release(leased.id))
        if job is None:
            return False
        try:  # a failed step is repeated after its lease expires; other jobs run meanwhile
            await (self._validate(job) if job.status == "validating" else self._finalize(job))
        except asyncio.CancelledError:  # the server stops
            await asyncio.to_thread(components.steps.release, job.id)
            raise
        return True

    async def _validate(self, job: Job) -> None:
        components = self._components
        try:
            options = await components.processor.pin_options(job.kind, job.options)
            inputs = None
            if job.folder is not None:
                inputs = await asyncio.to_thread(
                    list_inputs, self._settings.folder_root, job.folder, max_inputs=self._settings.max_inputs
                )
        except ServiceError:
            raise
        except Exception as error:  # a retry would fail in the same way
            await asyncio.to_thread(components.steps.reject, job.id, to_problem(job.id, error))
            return
        await asyncio.to_thread(components.steps.begin, job.id, options=options, inputs=inputs)
        self._inputs_wake.set()

    async def _finalize(self, job: Job) -> None:
        await asyncio.to_thread(self._components.folder.remove, job.id)
        await asyncio.to_thread(self._components.steps.finalize, job.id)

    async def _next_delivery(self) -> bool:
        secret = self._settings.webhook_secret.get_secret_value()
        if not secret:
            return False
        outcome = await deliver_due(self._components.deliveries, self._components.outgoing, secret)
        if outcome is not None:
            self._components.metrics.webhooks.labels(outcome).inc()
        return outcome is not None


async def _take_or_give_back(take: Callable[[], Leased | None], give_back: Callable[[Leased], object]) -> Leased | None:
    """Call `take` in a thread. If the server stops meanwhile, give the lease back instead of letting it expire."""
    taking = asyncio.ensure_future(asyncio.to_thread(take))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        if (leased := await taking) is not None:
            await asyncio.to_thread(give_back, leased)
        raise
