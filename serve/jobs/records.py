"""Jobs and inputs as they are in the store."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from serve.jobs.states import InputState, JobStatus

JobKind = Literal["classify", "timeline", "embed"]
InputSource = Literal["upload", "folder", "url"]


def new_job_id() -> str:
    """Return an unused id."""
    return f"job_{secrets.token_hex(16)}"


@dataclass(frozen=True, kw_only=True)
class NewInput:
    """An input of a job that is created."""

    name: str  # as the caller knows it
    source: InputSource
    place: str  # path below the folder of the source, or URL
    num_bytes: int | None = None  # of an upload


@dataclass(frozen=True, kw_only=True)
class FolderRequest:
    """A folder of the server, below the allowed one, and which files of it are inputs."""

    path: str
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to create; with a `folder`, its inputs are found while it is validated."""

    id: str = field(default_factory=new_job_id)
    kind: JobKind
    options: Mapping[str, Any]
    inputs: tuple[NewInput, ...] = ()
    folder: FolderRequest | None = None
    storage: str | None = None  # id of the folder that holds the inputs; None if any gateway can reach them
    webhook_url: str | None = None
    idempotency_key: str | None = None
    content_hash: str | None = None
    key_id: str | None = None  # API key that the job belongs to


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job in the store; times are seconds since 1970."""

    id: str
    kind: JobKind
    status: JobStatus
    options: Mapping[str, Any]
    folder: FolderRequest | None
    webhook_url: str | None
    content_hash: str | None
    problem: Mapping[str, Any] | None
    num_inputs: int
    num_completed: int
    num_failed: int
    num_events: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    deadline_at: float
    key_id: str | None = None  # API key that the job belongs to
    progress: float = 0.0  # of all inputs, 0 to 1

    @property
    def counts(self) -> dict[str, int]:
        """Counts of inputs as answers and events show them."""
        return {"total": self.num_inputs, "completed": self.num_completed, "failed": self.num_failed}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """An input that this gateway works on until the lease expires."""

    job_id: str
    number: int
    attempt: int  # from 1
    kind: JobKind
    options: Mapping[str, Any] = field(hash=False)
    name: str
    source: InputSource
    place: str
    key_id: str | None  # API key that the job belongs to


@dataclass(frozen=True, kw_only=True)
class InputRow:
    """A finished input."""

    number: int
    name: str
    state: InputState
    attempts: int
    result: str | None  # JSON
    problem: str | None  # JSON


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """A change of a job, numbered from 1."""

    number: int
    kind: str
    data: str  # JSON


def job_of(row: Any, *, progress: float = 0.0) -> Job:
    """Return the job of a row of the table."""
    return Job(
        id=row.id,
        kind=row.kind,
        status=row.status,
        options=json.loads(row.options),
        folder=None if row.folder is None else FolderRequest(**json.loads(row.folder)),
        webhook_url=row.webhook_url,
        content_hash=row.content_hash,
        problem=None if row.problem is None else json.loads(row.problem),
        num_inputs=row.num_inputs,
        num_completed=row.num_completed,
        num_failed=row.num_failed,
        num_events=row.num_events,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        deadline_at=row.deadline_at,
        key_id=row.key_id or None,
        progress=progress,
    )


def as_json(value: Any) -> str:
    """Return a value as JSON text on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
