"""Change a job within a transaction that holds the lock on the job's row.

Every change of a job or of its inputs holds this lock, so the counts, states and events of a job are consistent.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from serve.jobs.records import as_json
from serve.jobs.states import FINISHED, FINISHED_INPUT, JobStatus
from serve.store.schema import job_events, job_inputs, jobs, webhook_deliveries


def database_time(connection: sa.Connection) -> float:
    """Return the time in seconds since 1970: of the PostgreSQL server, or of this machine with SQLite."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(sa.text("select extract(epoch from clock_timestamp())")).scalar_one())
    return time.time()


def lock_job(connection: sa.Connection, job_id: str) -> Any | None:
    """Lock the row of a job until the end of the transaction and return it; None if it does not exist."""
    return connection.execute(sa.select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()


def update_job(connection: sa.Connection, job_id: str, **values: Any) -> Any:
    """Update columns of a locked job and return its new row."""
    connection.execute(jobs.update().where(jobs.c.id == job_id).values(**values))
    return connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one()


def add_event(connection: sa.Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
    """Append an event to a locked job."""
    number = connection.execute(
        jobs.update().where(jobs.c.id == job_id).values(num_events=jobs.c.num_events + 1).returning(jobs.c.num_events)
    ).scalar_one()
    connection.execute(
        job_events.insert().values(
            job_id=job_id, number=number, kind=kind, data=as_json(data), created_at=database_time(connection)
        )
    )


def set_status(connection: sa.Connection, job_id: str, status: JobStatus, **values: Any) -> None:
    """Set the status of a locked job and add an event; when the job is finished, queue its webhook."""
    now = database_time(connection)
    if status in FINISHED:
        values["finished_at"] = now
    row = update_job(connection, job_id, status=status, lease_expires_at=None, **values)
    add_event(connection, job_id, "status", {"status": status, "request_counts": request_counts(row)})
    if status in FINISHED and row.webhook_url is not None:
        finished_at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        body = as_json({"type": f"job.{status}", "timestamp": finished_at, "data": webhook_data(row)})
        connection.execute(
            webhook_deliveries.insert().values(
                job_id=job_id, url=row.webhook_url, body=body, state="pending", num_attempts=0, next_at=now
            )
        )


def cancel_inputs(connection: sa.Connection, job_id: str, *, include_running: bool) -> None:
    """Cancel the pending inputs of a locked job and, if `include_running` is set, its running inputs."""
    states = ("pending", "running") if include_running else ("pending",)
    connection.execute(
        job_inputs.update()
        .where(job_inputs.c.job_id == job_id, job_inputs.c.state.in_(states))
        .values(state="cancelled", owner=None, lease_expires_at=None, finished_at=database_time(connection))
    )


def has_unfinished_inputs(connection: sa.Connection, job_id: str) -> bool:
    """Return whether a job has inputs that are not finished."""
    query = sa.select(job_inputs.c.number).where(
        job_inputs.c.job_id == job_id, job_inputs.c.state.not_in(FINISHED_INPUT)
    )
    return connection.execute(query.limit(1)).first() is not None


def request_counts(row: Any) -> dict[str, int]:
    """Return the numbers of total, completed and failed inputs from the row of a job."""
    return {"total": row.num_inputs, "completed": row.num_completed, "failed": row.num_failed}


def webhook_data(row: Any) -> dict[str, Any]:
    """Return the `data` object of a job's webhook. It has URLs of the results, not the results."""
    return {
        "id": row.id,
        "kind": row.kind,
        "status": row.status,
        "request_counts": request_counts(row),
        "output_url": f"/v1/jobs/{row.id}/output",
        "errors_url": f"/v1/jobs/{row.id}/errors",
    }
