"""Changes of a job inside a transaction: each locks the row of the job first, and adds an event.

Because every change of a job and of its inputs holds that lock, counts, states and events of a job always agree.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from serve.jobs.records import as_json
from serve.jobs.states import FINISHED, FINISHED_INPUT, JobStatus
from serve.store.schema import job_events, job_inputs, jobs, webhook_deliveries


def clock(connection: sa.Connection) -> float:
    """Return seconds since 1970 of the database's clock; SQLite has that of this machine."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(sa.text("select extract(epoch from clock_timestamp())")).scalar_one())
    return time.time()


def locked_job(connection: sa.Connection, job_id: str) -> Any | None:
    """Lock the row of a job until the end of the transaction and return it; None if there is no such job."""
    return connection.execute(sa.select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()


def update_job(connection: sa.Connection, job_id: str, **values: Any) -> Any:
    """Change a locked job and return its row."""
    connection.execute(jobs.update().where(jobs.c.id == job_id).values(**values))
    return connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one()


def add_event(connection: sa.Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
    """Append an event to a locked job."""
    number = connection.execute(
        jobs.update().where(jobs.c.id == job_id).values(num_events=jobs.c.num_events + 1).returning(jobs.c.num_events)
    ).scalar_one()
    connection.execute(
        job_events.insert().values(
            job_id=job_id, number=number, kind=kind, data=as_json(data), created_at=clock(connection)
        )
    )


def set_status(connection: sa.Connection, job_id: str, status: JobStatus, **values: Any) -> None:
    """Move a locked job to a status; a finished job gets its time and the delivery of its webhook."""
    now = clock(connection)
    if status in FINISHED:
        values["finished_at"] = now
    row = update_job(connection, job_id, status=status, lease_expires_at=None, **values)
    add_event(connection, job_id, "status", {"status": status, "request_counts": counts_of(row)})
    if status in FINISHED and row.webhook_url is not None:
        ended_at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        body = as_json({"type": f"job.{status}", "timestamp": ended_at, "data": summary(row)})
        connection.execute(
            webhook_deliveries.insert().values(
                job_id=job_id, url=row.webhook_url, body=body, state="pending", num_attempts=0, next_at=now
            )
        )


def stop_inputs(connection: sa.Connection, job_id: str, *, running: bool) -> None:
    """Cancel the inputs of a locked job that wait; with `running`, also those that a gateway works on."""
    states = ("pending", "running") if running else ("pending",)
    connection.execute(
        job_inputs.update()
        .where(job_inputs.c.job_id == job_id, job_inputs.c.state.in_(states))
        .values(state="cancelled", owner=None, lease_expires_at=None, finished_at=clock(connection))
    )


def has_unfinished_inputs(connection: sa.Connection, job_id: str) -> bool:
    """Return whether an input of a job is not finished."""
    query = sa.select(job_inputs.c.number).where(
        job_inputs.c.job_id == job_id, job_inputs.c.state.not_in(FINISHED_INPUT)
    )
    return connection.execute(query.limit(1)).first() is not None


def counts_of(row: Any) -> dict[str, int]:
    """Return the counts of inputs in the row of a job."""
    return {"total": row.num_inputs, "completed": row.num_completed, "failed": row.num_failed}


def summary(row: Any) -> dict[str, Any]:
    """Return the facts of a job that its webhook carries; results are fetched from the server."""
    return {
        "id": row.id,
        "kind": row.kind,
        "status": row.status,
        "request_counts": counts_of(row),
        "output_url": f"/v1/jobs/{row.id}/output",
        "errors_url": f"/v1/jobs/{row.id}/errors",
    }
