"""Steps of whole jobs: validate, finalize, expire, clean up. Any gateway takes a step by a lease of the job."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from serve.jobs.changes import clock, has_unfinished_inputs, locked_job, set_status, stop_inputs, update_job
from serve.jobs.records import Job, NewInput, as_json, job_of
from serve.jobs.states import FINISHED
from serve.jobs.store import insert_inputs
from serve.store.database import Database
from serve.store.schema import job_inputs, jobs


class JobSteps:
    """Moves jobs between their states; every method blocks and belongs in a worker thread."""

    def __init__(self, database: Database, *, storage: str, lease_seconds: float, keep_seconds: float) -> None:
        self._database = database
        self._storage = storage
        self._lease_seconds = lease_seconds
        self._keep_seconds = keep_seconds

    def take(self) -> Job | None:
        """Take the oldest job that is to be validated or finalized; None if there is none.

        A job is validated where its uploads are. It is finalized anywhere: their gateway deletes them when it sees that
        the job is finished, if that is later.
        """
        is_reachable = sa.or_(jobs.c.storage.is_(None), jobs.c.storage == self._storage)
        with self._database.writing() as connection:
            now = clock(connection)
            row = connection.execute(
                sa.select(jobs)
                .where(
                    sa.or_(jobs.c.status == "finalizing", sa.and_(jobs.c.status == "validating", is_reachable)),
                    sa.or_(jobs.c.lease_expires_at.is_(None), jobs.c.lease_expires_at < now),
                )
                .order_by(jobs.c.created_at)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            if row is None:
                return None
            return job_of(update_job(connection, row.id, lease_expires_at=now + self._lease_seconds))

    def begin(self, job_id: str, *, options: Mapping[str, Any], found: Sequence[NewInput] | None) -> None:
        """Start a validated job with its final options and, for a folder, the inputs found there."""
        with self._database.writing() as connection:
            row = locked_job(connection, job_id)
            if row is None or row.status != "validating":
                return
            if found is not None:
                insert_inputs(connection, job_id, found)
            set_status(connection, job_id, "in_progress", options=as_json(dict(options)), started_at=clock(connection))

    def reject(self, job_id: str, problem: Mapping[str, Any]) -> None:
        """End a job whose validation failed."""
        with self._database.writing() as connection:
            row = locked_job(connection, job_id)
            if row is not None and row.status == "validating":
                stop_inputs(connection, job_id, running=True)
                set_status(connection, job_id, "failed", problem=as_json(dict(problem)))

    def release(self, job_id: str) -> None:
        """Let another gateway, or a later attempt, take the step of a job."""
        with self._database.writing() as connection:
            connection.execute(jobs.update().where(jobs.c.id == job_id).values(lease_expires_at=None))

    def finalize(self, job_id: str) -> None:
        """End a job whose inputs are all finished and whose uploads are deleted."""
        with self._database.writing() as connection:
            row = locked_job(connection, job_id)
            if row is not None and row.status == "finalizing":
                set_status(connection, job_id, "completed")

    def end_overdue(self) -> None:
        """Expire jobs that are past their deadline, and end cancelled jobs whose gateways are gone."""
        for job_id in self._ids(lambda now: sa.and_(jobs.c.deadline_at < now, _is_open())):
            with self._database.writing() as connection:
                row = locked_job(connection, job_id)
                if row is not None and row.status in ("validating", "in_progress", "cancelling"):
                    stop_inputs(connection, job_id, running=True)
                    set_status(connection, job_id, "cancelled" if row.status == "cancelling" else "expired")
        for job_id in self._ids(lambda now: sa.and_(jobs.c.status == "cancelling", ~_has_leased_input(now))):
            with self._database.writing() as connection:
                row = locked_job(connection, job_id)
                if row is not None and row.status == "cancelling":
                    _stop_lost_inputs(connection, job_id)
                    if not has_unfinished_inputs(connection, job_id):
                        set_status(connection, job_id, "cancelled")

    def delete_old(self) -> int:
        """Delete jobs that were finished before the time of retention; return their number."""
        with self._database.writing() as connection:
            before = clock(connection) - self._keep_seconds
            deleted = connection.execute(jobs.delete().where(jobs.c.status.in_(FINISHED), jobs.c.finished_at < before))
            return deleted.rowcount

    def _ids(self, condition: Any) -> list[str]:
        with self._database.reading() as connection:
            return list(connection.execute(sa.select(jobs.c.id).where(condition(clock(connection)))).scalars())


def _is_open() -> sa.ColumnElement[bool]:
    return jobs.c.status.in_(("validating", "in_progress", "cancelling"))


def _has_leased_input(now: float) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        job_inputs.c.job_id == jobs.c.id, job_inputs.c.state == "running", job_inputs.c.lease_expires_at >= now
    )


def _stop_lost_inputs(connection: sa.Connection, job_id: str) -> None:
    now = clock(connection)
    is_lost = sa.or_(job_inputs.c.state == "pending", job_inputs.c.lease_expires_at < now)
    connection.execute(
        job_inputs.update()
        .where(job_inputs.c.job_id == job_id, job_inputs.c.state.in_(("pending", "running")), is_lost)
        .values(state="cancelled", owner=None, lease_expires_at=None, finished_at=now)
    )
