"""The queue of inputs, shared by all gateways of one store.

A gateway takes an input by a lease, renews it by heartbeats and records the result in one transaction with the counts
of the job. A lease that expires returns the input to the queue; a result of a lost lease is discarded, so that each
input has one result however many gateways die or stall.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from serve.api.problems import problem_document
from serve.errors import InputAbandoned
from serve.jobs.changes import add_event, clock, counts_of, has_unfinished_inputs, locked_job, set_status, update_job
from serve.jobs.records import Claim, as_json
from serve.jobs.states import JobStatus
from serve.store.database import Database
from serve.store.schema import job_inputs, jobs

FOLLOWING: Mapping[str, JobStatus] = {"in_progress": "finalizing", "cancelling": "cancelled"}


@dataclass(frozen=True, kw_only=True)
class QueueFacts:
    """Figures of the queue."""

    jobs: Mapping[str, int]  # status -> number of jobs of the store
    inputs: Mapping[str, int]  # pending and running inputs of jobs in progress
    oldest_seconds: float  # age of the oldest job that is not finished; 0 if there is none


class InputQueue:
    """Takes inputs from the queue and records how they end; every method blocks and belongs in a worker thread."""

    def __init__(
        self, database: Database, *, owner: str, storage: str, lease_seconds: float, max_attempts: int
    ) -> None:
        """`owner` names this gateway, `storage` its folder of uploads."""
        self._database = database
        self._owner = owner
        self._storage = storage
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts

    def take(self) -> Claim | None:
        """Take the next input; None if there is none. Jobs take turns, inputs of a job go in order."""
        while True:
            with self._database.writing() as connection:
                now = clock(connection)
                job = connection.execute(self._next_job(now)).first()
                if job is None:
                    return None
                row = connection.execute(
                    sa.select(job_inputs)
                    .where(job_inputs.c.job_id == job.id, _is_free(now))
                    .order_by(job_inputs.c.number)
                    .limit(1)
                ).first()
                if row is None:  # finished by another gateway between the two queries
                    continue
                if row.attempts >= self._max_attempts:  # the processes that worked on it died
                    self._finish(
                        connection,
                        row.job_id,
                        row.number,
                        state="failed",
                        problem=as_json(problem_document(_abandoned(row))),
                    )
                    continue
                return self._lease(connection, job, row, now)

    def renew(self, progress: Mapping[Claim, float]) -> set[Claim]:
        """Renew the leases of inputs and store their progress; return those that may go on."""
        kept = set()
        with self._database.writing() as connection:
            for claim, share in sorted(progress.items(), key=lambda item: (item[0].job_id, item[0].number)):
                job = locked_job(connection, claim.job_id)
                if job is None or job.status != "in_progress":
                    continue
                expires_at = clock(connection) + self._lease_seconds
                renewed = connection.execute(
                    job_inputs.update().where(self._is_ours(claim)).values(lease_expires_at=expires_at, progress=share)
                )
                if renewed.rowcount:
                    kept.add(claim)
        return kept

    def complete(self, claim: Claim, result: str) -> bool:
        """Record a result (JSON); return False if the lease was lost, and nothing was recorded."""
        return self._record(claim, state="completed", result=result)

    def fail(self, claim: Claim, problem: Mapping[str, Any]) -> bool:
        """Record the problem of an input; return False if the lease was lost, and nothing was recorded."""
        return self._record(claim, state="failed", problem=as_json(problem))

    def may_retry(self, claim: Claim) -> bool:
        """Return whether an input has attempts left."""
        return claim.attempt < self._max_attempts

    def give_back(self, claim: Claim, *, delay_seconds: float = 0.0, counts: bool = True) -> bool:
        """Return an input to the queue, or end it if its job is being cancelled; False if the lease was lost.

        An attempt that does not count leaves room for another.
        """
        with self._database.writing() as connection:
            job = locked_job(connection, claim.job_id)
            if job is None:
                return False
            if job.status == "cancelling":
                return self._cancel(connection, claim)
            attempts = claim.attempt if counts else claim.attempt - 1
            returned = connection.execute(
                job_inputs.update()
                .where(self._is_ours(claim))
                .values(
                    state="pending",
                    owner=None,
                    lease_expires_at=None,
                    progress=0.0,
                    attempts=attempts,
                    not_before=clock(connection) + delay_seconds,
                )
            )
            return returned.rowcount > 0

    def facts(self) -> QueueFacts:
        """Return figures of the queue."""
        unfinished = jobs.c.finished_at.is_(None)
        with self._database.reading() as connection:
            by_status = connection.execute(
                sa.select(jobs.c.status, sa.func.count().label("number")).group_by(jobs.c.status)
            ).all()
            by_state = connection.execute(
                sa.select(job_inputs.c.state, sa.func.count().label("number"))
                .join(jobs, jobs.c.id == job_inputs.c.job_id)
                .where(job_inputs.c.state.in_(("pending", "running")), unfinished)
                .group_by(job_inputs.c.state)
            ).all()
            oldest = connection.execute(sa.select(sa.func.min(jobs.c.created_at)).where(unfinished)).scalar()
            age = 0.0 if oldest is None else max(0.0, clock(connection) - oldest)
        return QueueFacts(
            jobs={row.status: row.number for row in by_status},
            inputs={row.state: row.number for row in by_state},
            oldest_seconds=age,
        )

    def _next_job(self, now: float) -> sa.Select[Any]:
        has_input = sa.exists().where(job_inputs.c.job_id == jobs.c.id, _is_free(now))
        is_reachable = sa.or_(jobs.c.storage.is_(None), jobs.c.storage == self._storage)
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
                owner=self._owner,
                lease_expires_at=now + self._lease_seconds,
                attempts=attempt,
                progress=0.0,
            )
        )
        update_job(connection, job.id, served_at=now)
        return Claim(
            job_id=job.id,
            number=row.number,
            attempt=attempt,
            kind=job.kind,
            options=json.loads(job.options),
            name=row.name,
            source=row.source,
            place=row.place,
            key_id=job.key_id or None,
        )

    def _record(self, claim: Claim, *, state: str, result: str | None = None, problem: str | None = None) -> bool:
        with self._database.writing() as connection:
            if locked_job(connection, claim.job_id) is None:
                return False
            owned = connection.execute(sa.select(job_inputs.c.number).where(self._is_ours(claim))).first()
            if owned is None:
                return False
            self._finish(connection, claim.job_id, claim.number, state=state, result=result, problem=problem)
            return True

    def _finish(
        self,
        connection: sa.Connection,
        job_id: str,
        number: int,
        *,
        state: str,
        result: str | None = None,
        problem: str | None = None,
    ) -> None:
        """Record the end of an input of a locked job; the last one moves the job on."""
        connection.execute(
            job_inputs.update()
            .where(job_inputs.c.job_id == job_id, job_inputs.c.number == number)
            .values(
                state=state,
                result=result,
                problem=problem,
                owner=None,
                lease_expires_at=None,
                progress=1.0,
                finished_at=clock(connection),
            )
        )
        counted = jobs.c.num_completed if state == "completed" else jobs.c.num_failed
        row = update_job(connection, job_id, **{counted.name: counted + 1})
        add_event(connection, job_id, "input", {"index": number, "state": state, "request_counts": counts_of(row)})
        self._move_on(connection, row)

    def _cancel(self, connection: sa.Connection, claim: Claim) -> bool:
        ended = connection.execute(
            job_inputs.update()
            .where(self._is_ours(claim))
            .values(state="cancelled", owner=None, lease_expires_at=None, finished_at=clock(connection))
        )
        self._move_on(connection, locked_job(connection, claim.job_id))
        return ended.rowcount > 0

    @staticmethod
    def _move_on(connection: sa.Connection, job: Any) -> None:
        """Move a locked job to its next status if none of its inputs is left."""
        following = FOLLOWING.get(job.status)
        if following is not None and not has_unfinished_inputs(connection, job.id):
            set_status(connection, job.id, following)

    def _is_ours(self, claim: Claim) -> sa.ColumnElement[bool]:
        return sa.and_(
            job_inputs.c.job_id == claim.job_id,
            job_inputs.c.number == claim.number,
            job_inputs.c.state == "running",
            job_inputs.c.owner == self._owner,
            job_inputs.c.attempts == claim.attempt,
        )


def _is_free(now: float) -> sa.ColumnElement[bool]:
    """Whether an input waits, or the lease of its gateway has expired."""
    waits = sa.and_(job_inputs.c.state == "pending", job_inputs.c.not_before <= now)
    is_lost = sa.and_(job_inputs.c.state == "running", job_inputs.c.lease_expires_at < now)
    return sa.or_(waits, is_lost)


def _abandoned(row: Any) -> InputAbandoned:
    return InputAbandoned(
        f"the server stopped during each of the {row.attempts} attempts to process this input", attempts=row.attempts
    )
