"""The queue of inputs, shared by all server processes that use one database.

A process leases an input, renews the lease with heartbeats and records the result in one transaction with the counts
of the job. An input whose lease expired is taken again by any process. Results that arrive after the lease was lost
are discarded, so that each input has exactly one result even if processes crash or stall.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from serve.api.problems import problem_document
from serve.errors import InputAbandoned
from serve.jobs.changes import (
    add_event,
    database_time,
    has_unfinished_inputs,
    lock_job,
    request_counts,
    set_status,
    update_job,
)
from serve.jobs.records import Claim, as_json
from serve.jobs.states import JobStatus
from serve.store.database import Database
from serve.store.schema import job_inputs, jobs

NEXT_STATUS: Mapping[str, JobStatus] = {"in_progress": "finalizing", "cancelling": "cancelled"}


@dataclass(frozen=True, kw_only=True)
class QueueStatistics:
    """Statistics of the queue."""

    jobs: Mapping[str, int]  # numbers of the jobs of the store by status
    inputs: Mapping[str, int]  # numbers of pending and running inputs of unfinished jobs
    oldest_seconds: float  # age of the oldest unfinished job; 0 if there is none


class InputQueue:
    """Takes inputs from the queue and records their results. All methods block: call them in a worker thread."""

    def __init__(
        self, database: Database, *, worker_id: str, storage_id: str, lease_seconds: float, max_attempts: int
    ) -> None:
        """`worker_id` identifies this process, `storage_id` the folder of uploads that it can read."""
        self._database = database
        self._worker_id = worker_id
        self._storage_id = storage_id
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts

    def take(self) -> Claim | None:
        """Lease the next input; return None if there is none.

        Jobs take turns; the inputs of a job are taken in order.
        """
        while True:
            with self._database.writing() as connection:
                now = database_time(connection)
                job = connection.execute(self._next_job(now)).first()
                if job is None:
                    return None
                row = connection.execute(
                    sa.select(job_inputs)
                    .where(job_inputs.c.job_id == job.id, _is_available(now))
                    .order_by(job_inputs.c.number)
                    .limit(1)
                ).first()
                if row is None:  # taken by another process between the two queries
                    continue
                if row.attempts >= self._max_attempts:  # the processes of all attempts crashed
                    self._finish(
                        connection,
                        row.job_id,
                        row.number,
                        state="failed",
                        problem=as_json(problem_document(_abandoned_error(row))),
                    )
                    continue
                return self._lease(connection, job, row, now)

    def renew(self, progress: Mapping[Claim, float]) -> set[Claim]:
        """Renew the leases of inputs and store their progress; return the inputs that may continue."""
        renewed = set()
        with self._database.writing() as connection:
            for claim, fraction in sorted(progress.items(), key=lambda item: (item[0].job_id, item[0].index)):
                job = lock_job(connection, claim.job_id)
                if job is None or job.status != "in_progress":
                    continue
                expires_at = database_time(connection) + self._lease_seconds
                updated = connection.execute(
                    job_inputs.update()
                    .where(self._has_lease(claim))
                    .values(lease_expires_at=expires_at, progress=fraction)
                )
                if updated.rowcount:
                    renewed.add(claim)
        return renewed

    def complete(self, claim: Claim, result: str) -> bool:
        """Record a result (JSON). Return False, and record nothing, if the lease was lost."""
        return self._record(claim, state="completed", result=result)

    def fail(self, claim: Claim, problem: Mapping[str, Any]) -> bool:
        """Record the error of an input. Return False, and record nothing, if the lease was lost."""
        return self._record(claim, state="failed", problem=as_json(problem))

    def may_retry(self, claim: Claim) -> bool:
        """Return whether an input has attempts left."""
        return claim.attempt < self._max_attempts

    def give_back(self, claim: Claim, *, delay_seconds: float = 0.0, count_attempt: bool = True) -> bool:
        """Return an input to the queue, or cancel it if its job is being cancelled. Return False if the lease was lost.

        With `count_attempt` False, the attempt does not count towards the maximum.
        """
        with self._database.writing() as connection:
            job = lock_job(connection, claim.job_id)
            if job is None:
                return False
            if job.status == "cancelling":
                return self._cancel(connection, claim)
            attempts = claim.attempt if count_attempt else claim.attempt - 1
            returned = connection.execute(
                job_inputs.update()
                .where(self._has_lease(claim))
                .values(
                    state="pending",
                    owner=None,
                    lease_expires_at=None,
                    progress=0.0,
                    attempts=attempts,
                    not_before=database_time(connection) + delay_seconds,
                )
            )
            return returned.rowcount > 0

    def statistics(self) -> QueueStatistics:
        """Return statistics of the queue."""
        unfinished = jobs.c.finished_at.is_(None)
        with self._database.reading() as connection:
            by_status = connection.execute(
                sa.select(jobs.c.status, sa.func.count().label("num_rows")).group_by(jobs.c.status)
            ).all()
            by_state = connection.execute(
                sa.select(job_inputs.c.state, sa.func.count().label("num_rows"))
                .join(jobs, jobs.c.id == job_inputs.c.job_id)
                .where(job_inputs.c.state.in_(("pending", "running")), unfinished)
                .group_by(job_inputs.c.state)
            ).all()
            oldest = connection.execute(sa.select(sa.func.min(jobs.c.created_at)).where(unfinished)).scalar()
            age = 0.0 if oldest is None else max(0.0, database_time(connection) - oldest)
        return QueueStatistics(
            jobs={row.status: row.num_rows for row in by_status},
            inputs={row.state: row.num_rows for row in by_state},
            oldest_seconds=age,
        )

    def _next_job(self, now: float) -> sa.Select[Any]:
        has_input = sa.exists().where(job_inputs.c.job_id == jobs.c.id, _is_available(now))
        is_reachable = sa.or_(jobs.c.storage.is_(None), jobs.c.storage == self._storage_id)
        return (
            sa.select(jobs)
            .where(jobs.c.status == "in_progress", is_reachable, has_input)
            .order_by(jobs.c.served_at, jobs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )

    def _lease(self, connection: sa.Connection, job: Any, row: Any, now: float) -> Claim:
        attempt = row.attempts + 1
        connection.execute(
            job_inputs.update()
            .where(job_inputs.c.job_id == row.job_id, job_inputs.c.number == row.number)
            .values(
                state="running",
                owner=self._worker_id,
                lease_expires_at=now + self._lease_seconds,
                attempts=attempt,
                progress=0.0,
            )
        )
        update_job(connection, job.id, served_at=now)
        return Claim(
            job_id=job.id,
            index=row.number,
            attempt=attempt,
            kind=job.kind,
            options=json.loads(job.options),
            name=row.name,
            source=row.source,
            location=row.place,
            key_id=job.key_id or None,
        )

    def _record(self, claim: Claim, *, state: str, result: str | None = None, problem: str | None = None) -> bool:
        with self._database.writing() as connection:
            if lock_job(connection, claim.job_id) is None:
                return False
            leased = connection.execute(sa.select(job_inputs.c.number).where(self._has_lease(claim))).first()
            if leased is None:
                return False
            self._finish(connection, claim.job_id, claim.index, state=state, result=result, problem=problem)
            return True

    def _finish(
        self,
        connection: sa.Connection,
        job_id: str,
        index: int,
        *,
        state: str,
        result: str | None = None,
        problem: str | None = None,
    ) -> None:
        """Record that an input of a locked job is finished; after the last input, update the status of the job."""
        connection.execute(
            job_inputs.update()
            .where(job_inputs.c.job_id == job_id, job_inputs.c.number == index)
            .values(
                state=state,
                result=result,
                problem=problem,
                owner=None,
                lease_expires_at=None,
                progress=1.0,
                finished_at=database_time(connection),
            )
        )
        counter = jobs.c.num_completed if state == "completed" else jobs.c.num_failed
        row = update_job(connection, job_id, **{counter.name: counter + 1})
        add_event(connection, job_id, "input", {"index": index, "state": state, "request_counts": request_counts(row)})
        self._advance_job(connection, row)

    def _cancel(self, connection: sa.Connection, claim: Claim) -> bool:
        updated = connection.execute(
            job_inputs.update()
            .where(self._has_lease(claim))
            .values(state="cancelled", owner=None, lease_expires_at=None, finished_at=database_time(connection))
        )
        self._advance_job(connection, lock_job(connection, claim.job_id))
        return updated.rowcount > 0

    @staticmethod
    def _advance_job(connection: sa.Connection, job: Any) -> None:
        """Set a locked job to its next status if all its inputs are finished."""
        next_status = NEXT_STATUS.get(job.status)
        if next_status is not None and not has_unfinished_inputs(connection, job.id):
            set_status(connection, job.id, next_status)

    def _has_lease(self, claim: Claim) -> sa.ColumnElement[bool]:
        return sa.and_(
            job_inputs.c.job_id == claim.job_id,
            job_inputs.c.number == claim.index,
            job_inputs.c.state == "running",
            job_inputs.c.owner == self._worker_id,
            job_inputs.c.attempts == claim.attempt,
        )


def _is_available(now: float) -> sa.ColumnElement[bool]:
    """Return the condition that an input is pending, or that its lease has expired."""
    is_waiting = sa.and_(job_inputs.c.state == "pending", job_inputs.c.not_before <= now)
    is_expired = sa.and_(job_inputs.c.state == "running", job_inputs.c.lease_expires_at < now)
    return sa.or_(is_waiting, is_expired)


def _abandoned_error(row: Any) -> InputAbandoned:
    return InputAbandoned(
        f"the server stopped during each of the {row.attempts} attempts to process this input", attempts=row.attempts
    )
