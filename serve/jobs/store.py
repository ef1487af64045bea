"""Jobs in the database: the operations that callers request (create, read, list, cancel, delete)."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from serve.errors import IdempotencyKeyReused, JobsFull, UnknownJob
from serve.jobs.changes import (
    add_event,
    cancel_inputs,
    database_time,
    has_unfinished_inputs,
    lock_job,
    request_counts,
    set_status,
)
from serve.jobs.records import InputRow, Job, JobEvent, JobKind, NewJob, as_json, job_from_row
from serve.jobs.states import CANCELLABLE, FINISHED, UNFINISHED, InputState, JobStatus
from serve.store.database import Database
from serve.store.schema import job_events, job_inputs, jobs, webhook_attempts, webhook_deliveries


class JobStore:
    """Reads and writes jobs. All methods block: call them in a worker thread."""

    def __init__(self, database: Database, *, max_jobs: int, max_stored_bytes: int, deadline_seconds: float) -> None:
        """`max_jobs` and `max_stored_bytes` limit the unfinished jobs and the size of their uploads."""
        self._database = database
        self._max_jobs = max_jobs
        self._max_stored_bytes = max_stored_bytes
        self._deadline_seconds = deadline_seconds

    def create(self, new: NewJob) -> tuple[Job, bool]:
        """Store a job and return (job, True); if its idempotency key was used before, return (existing job, False).

        Raises:
            IdempotencyKeyReused: the key was used before with a different request.
            JobsFull: the limit of jobs or of stored bytes is reached.
        """
        try:
            with self._database.writing() as connection:
                existing = _job_of_idempotency_key(connection, new)
                if existing is None:
                    self._require_room(connection, sum(item.num_bytes or 0 for item in new.inputs))
                    self._insert(connection, new)
                    return _job(connection, new.id), True
        except sa.exc.IntegrityError:  # another request with the same key was committed meanwhile
            with self._database.reading() as connection:
                existing = _job_of_idempotency_key(connection, new)
            if existing is None:
                raise
        return existing, False

    def require_room(self, num_bytes: int = 0) -> None:
        """Check that a job with `num_bytes` of uploads may be created.

        Raises:
            JobsFull: the limit of jobs or of stored bytes is reached.
        """
        with self._database.reading() as connection:
            self._require_room(connection, num_bytes)

    def load(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJob: there is no job with this id.
        """
        with self._database.reading() as connection:
            return _job(connection, job_id)

    def page(
        self,
        *,
        status: JobStatus | None,
        kind: JobKind | None,
        key_id: str | None = None,
        after: tuple[float, str] | None,
        limit: int,
    ) -> list[Job]:
        """Return up to `limit` jobs, newest first, starting after the position `after` (created_at, id)."""
        query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        if key_id is not None:
            query = query.where(jobs.c.key_id == key_id)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if kind is not None:
            query = query.where(jobs.c.kind == kind)
        if after is not None:
            created_at, job_id = after
            is_same = sa.and_(jobs.c.created_at == created_at, jobs.c.id < job_id)
            query = query.where(sa.or_(jobs.c.created_at < created_at, is_same))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            return [job_from_row(row, progress=_progress(connection, row)) for row in rows]

    def inputs(self, job_id: str, *, state: InputState, after: int, limit: int) -> list[InputRow]:
        """Return up to `limit` inputs in the given state with an index above `after`, in order.

        Raises:
            UnknownJob: there is no job with this id.
        """
        columns = ("name", "state", "attempts", "result", "problem")
        query = (
            sa.select(job_inputs.c.number.label("index"), *(job_inputs.c[name] for name in columns))
            .where(job_inputs.c.job_id == job_id, job_inputs.c.state == state, job_inputs.c.number > after)
            .order_by(job_inputs.c.number)
            .limit(limit)
        )
        with self._database.reading() as connection:
            _job(connection, job_id)
            return [InputRow(**row._mapping) for row in connection.execute(query)]

    def events(self, job_id: str, *, after: int, limit: int) -> tuple[Job, list[JobEvent]]:
        """Return a job and up to `limit` of its events with a number above `after`, in order.

        Raises:
            UnknownJob: there is no job with this id.
        """
        query = (
            sa.select(job_events.c.number, job_events.c.kind, job_events.c.data)
            .where(job_events.c.job_id == job_id, job_events.c.number > after)
            .order_by(job_events.c.number)
            .limit(limit)
        )
        with self._database.reading() as connection:
            job = _job(connection, job_id)
            return job, [JobEvent(**row._mapping) for row in connection.execute(query)]

    def delivery(self, job_id: str) -> tuple[Any, Sequence[Any]] | None:
        """Return the rows of a job's webhook delivery and of its attempts; None before the job is finished."""
        attempts = sa.select(webhook_attempts).where(webhook_attempts.c.job_id == job_id)
        with self._database.reading() as connection:
            delivery = connection.execute(
                sa.select(webhook_deliveries).where(webhook_deliveries.c.job_id == job_id)
            ).one_or_none()
            if delivery is None:
                return None
            return delivery, connection.execute(attempts.order_by(webhook_attempts.c.number)).all()

    def cancel(self, job_id: str) -> Job:
        """Cancel an unfinished job: pending inputs at once, running ones by their workers.

        Raises:
            UnknownJob: there is no job with this id.
        """
        with self._database.writing() as connection:
            row = lock_job(connection, job_id)
            if row is None:
                raise unknown_job(job_id)
            if row.status in CANCELLABLE:
                cancel_inputs(connection, job_id, include_running=False)
                set_status(connection, job_id, "cancelling")
                if not has_unfinished_inputs(connection, job_id):
                    set_status(connection, job_id, "cancelled")
            return _job(connection, job_id)

    def delete(self, job_id: str) -> bool:
        """Delete a finished job with its inputs, events and webhook; return False if it is not finished.

        Raises:
            UnknownJob: there is no job with this id.
        """
        with self._database.writing() as connection:
            row = lock_job(connection, job_id)
            if row is None:
                raise unknown_job(job_id)
            if row.status not in FINISHED:
                return False
            connection.execute(jobs.delete().where(jobs.c.id == job_id))
            return True

    def statuses(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        """Return the status of each given job that exists, by job id."""
        query = sa.select(jobs.c.id, jobs.c.status).where(jobs.c.id.in_(job_ids))
        with self._database.reading() as connection:
            return {row.id: row.status for row in connection.execute(query)}

    def _insert(self, connection: sa.Connection, new: NewJob) -> None:
        now = database_time(connection)
        folder = new.folder
        connection.execute(
            jobs.insert().values(
                id=new.id,
                kind=new.kind,
                status="validating",
                options=as_json(dict(new.options)),
                folder=None if folder is None else as_json({"path": folder.path, "pattern": folder.pattern}),
                storage=new.storage_id,
                webhook_url=new.webhook_url,
                idempotency_key=new.idempotency_key,
                content_hash=new.content_hash,
                num_inputs=0,
                num_completed=0,
                num_failed=0,
                num_events=0,
                created_at=now,
                deadline_at=now + self._deadline_seconds,
                served_at=0.0,
                key_id=new.key_id or "",
            )
        )
        insert_inputs(connection, new.id, new.inputs)
        row = connection.execute(sa.select(jobs).where(jobs.c.id == new.id)).one()
        add_event(connection, new.id, "status", {"status": "validating", "request_counts": request_counts(row)})

    def _require_room(self, connection: sa.Connection, num_bytes: int) -> None:
        count = connection.execute(
            sa.select(sa.func.count()).select_from(jobs).where(jobs.c.status.in_(UNFINISHED))
        ).scalar_one()
        if count >= self._max_jobs:
            raise JobsFull(
                f"{count} jobs are unfinished, which reaches the limit of {self._max_jobs}; try again later",
                limit=self._max_jobs,
            )
        stored = connection.execute(
            sa.select(sa.func.coalesce(sa.func.sum(job_inputs.c.num_bytes), 0))
            .join(jobs, jobs.c.id == job_inputs.c.job_id)
            .where(jobs.c.status.in_(UNFINISHED))
        ).scalar_one()
        if int(stored) + num_bytes > self._max_stored_bytes:
            raise JobsFull(
                f"the uploads of unfinished jobs have {int(stored)} bytes; {num_bytes} more would exceed the limit",
                limit_bytes=self._max_stored_bytes,
            )


def insert_inputs(connection: sa.Connection, job_id: str, inputs: Sequence[Any]) -> None:
    """Insert the inputs of a job and set the job's `num_inputs`."""
    rows = [
        {
            "job_id": job_id,
            "number": index,
            "name": item.name,
            "source": item.source,
            "place": item.location,
            "num_bytes": item.num_bytes,
            "state": "pending",
            "not_before": 0.0,
            "attempts": 0,
            "progress": 0.0,
        }
        for index, item in enumerate(inputs)
    ]
    if rows:
        connection.execute(job_inputs.insert(), rows)
    connection.execute(jobs.update().where(jobs.c.id == job_id).values(num_inputs=len(rows)))


def _job(connection: sa.Connection, job_id: str) -> Job:
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise unknown_job(job_id)
    return job_from_row(row, progress=_progress(connection, row))


def _progress(connection: sa.Connection, row: Any) -> float:
    """Return the fraction of a job's work that is done, 0 to 1."""
    finished = row.num_completed + row.num_failed
    if row.num_inputs in (0, finished):
        return 1.0 if row.num_inputs else 0.0
    running = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(job_inputs.c.progress), 0.0)).where(
            job_inputs.c.state == "running", job_inputs.c.job_id == row.id
        )
    ).scalar_one()
    return float((finished + running) / row.num_inputs)


def _job_of_idempotency_key(connection: sa.Connection, new: NewJob) -> Job | None:
    if new.idempotency_key is None:
        return None
    is_same_key = sa.and_(jobs.c.idempotency_key == new.idempotency_key, jobs.c.key_id == (new.key_id or ""))
    row = connection.execute(sa.select(jobs).where(is_same_key)).one_or_none()
    if row is None:
        return None
    if row.content_hash != new.content_hash:
        raise IdempotencyKeyReused(
            "this Idempotency-Key was used before with a different request; use a new key for a new request",
            job_id=row.id,
        )
    return job_from_row(row, progress=_progress(connection, row))


def unknown_job(job_id: str) -> UnknownJob:
    """Return the error for a job that does not exist or that belongs to another API key."""
    return UnknownJob(f"job {job_id[:80]!r} does not exist; it may have been deleted")
