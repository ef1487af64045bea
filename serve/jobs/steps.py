"""State changes of whole jobs: validate, finalize, expire, delete. A lease ensures that one process changes a job."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from serve.jobs.changes import cancel_inputs, database_time, has_unfinished_inputs, lock_job, set_status, update_job
from serve.jobs.records import Job, NewInput, as_json, job_from_row
from serve.jobs.states import FINISHED
from serve.jobs.store import insert_inputs
from serve.store.database import Database
from serve.store.schema import job_inputs, jobs


class JobSteps:
    """Moves jobs between states. All methods block: call them in a worker thread."""

    def __init__(self, database: Database, *, storage_id: str, lease_seconds: float, keep_seconds: float) -> None:
        self._database = database
        self._storage_id = storage_id
        self._lease_seconds = lease_seconds
        self._keep_seconds = keep_seconds

    def take(self) -> Job | None:
        """Lease the oldest job that must be validated or finalized; return None if there is none.

        Only a process that can read the uploads of a job validates it. Any process finalizes it; if that process cannot
        access the uploads, another one deletes them in `JobFolder.sweep`.
        """
        is_reachable = sa.or_(jobs.c.storage.is_(None), jobs.c.storage == self._storage_id)
        with self._database.writing() as connection:
            now = database_time(connection)
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
            return job_from_row(update_job(connection, row.id, lease_expires_at=now + self._lease_seconds))

    def begin(self, job_id: str, *, options: Mapping[str, Any], inputs: Sequence[NewInput] | None) -> None:
        """Start a validated job with its final options; `inputs` are the files of its folder, None without a folder."""
        with self._database.writing() as connection:
            row = lock_job(connection, job_id)
            if row is None or row.status != "validating":
                return
            if inputs is not None:
                insert_inputs(connection, job_id, inputs)
            set_status(
                connection, job_id, "in_progress", options=as_json(dict(options)), started_at=database_time(connection)
            )

    def reject(self, job_id: str, problem: Mapping[str, Any]) -> None:
        """Set a job whose validation failed to `failed`."""
        with self._database.writing() as connection:
            row = lock_job(connection, job_id)
            if row is not None and row.status == "validating":
                cancel_inputs(connection, job_id, include_running=True)
                set_status(connection, job_id, "failed", problem=as_json(dict(problem)))

    def release(self, job_id: str) -> None:
        """Release the lease of a job, so that any process can take it again."""
        with self._database.writing() as connection:
            connection.execute(jobs.update().where(jobs.c.id == job_id).values(lease_expires_at=None))

    def finalize(self, job_id: str) -> None:
        """Set a job whose inputs are finished and whose uploads are deleted to `completed`."""
        with self._database.writing() as connection:
            row = lock_job(connection, job_id)
            if row is not None and row.status == "finalizing":
                set_status(connection, job_id, "completed")

    def end_overdue(self) -> None:
        """Expire jobs after their deadline, and finish cancelling jobs whose processes have crashed."""
        for job_id in self._ids(lambda now: sa.and_(jobs.c.deadline_at < now, _can_expire())):
            with self._database.writing() as connection:
                row = lock_job(connection, job_id)
                if row is not None and row.status in ("validating", "in_progress", "cancelling"):
                    cancel_inputs(connection, job_id, include_running=True)
                    set_status(connection, job_id, "cancelled" if row.status == "cancelling" else "expired")
        for job_id in self._ids(lambda now: sa.and_(jobs.c.status == "cancelling", ~_has_leased_input(now))):
            with self._database.writing() as connection:
                row = lock_job(connection, job_id)
                if row is not None and row.status == "cancelling":
                    _cancel_expired_inputs(connection, job_id)
                    if not has_unfinished_inputs(connection, job_id):
                        set_status(connection, job_id, "cancelled")

    def delete_old(self) -> int:
        """Delete jobs that finished longer ago than the retention time; return the number of deleted jobs."""
        with self._database.writing() as connection:
            before = database_time(connection) - self._keep_seconds
            deleted = connection.execute(jobs.delete().where(jobs.c.status.in_(FINISHED), jobs.c.finished_at < before))
            return deleted.rowcount

    def _ids(self, condition: Any) -> list[str]:
        with self._database.reading() as connection:
            return list(connection.execute(sa.select(jobs.c.id).where(condition(database_time(connection)))).scalars())


def _can_expire() -> sa.ColumnElement[bool]:
    return jobs.c.status.in_(("validating", "in_progress", "cancelling"))


def _has_leased_input(now: float) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        job_inputs.c.job_id == jobs.c.id, job_inputs.c.state == "running", job_inputs.c.lease_expires_at >= now
    )


def _cancel_expired_inputs(connection: sa.Connection, job_id: str) -> None:
    now = database_time(connection)
    is_not_leased = sa.or_(job_inputs.c.state == "pending", job_inputs.c.lease_expires_at < now)
    connection.execute(
        job_inputs.update()
        .where(job_inputs.c.job_id == job_id, job_inputs.c.state.in_(("pending", "running")), is_not_leased)
        .values(state="cancelled", owner=None, lease_expires_at=None, finished_at=now)
    )
