"""Records of jobs and of their inputs in the database."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from serve.jobs.states import InputState, JobStatus

JobKind = Literal["classify", "timeline", "embed"]
InputSource = Literal["upload", "folder", "url"]


def new_job_id() -> str:
    """Return a new random job id."""
    return f"job_{secrets.token_hex(16)}"


@dataclass(frozen=True, kw_only=True)
class NewInput:
    """An input of a new job."""

    name: str  # given by the caller
    source: InputSource
    location: str  # relative path of an upload or of a file in the server's folder, or a URL
    num_bytes: int | None = None  # only for uploads


@dataclass(frozen=True, kw_only=True)
class FolderRequest:
    """A subfolder of the server's allowed folder, with a pattern that selects the input files."""

    path: str
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to create. The files of a `folder` are listed later, when the job is validated."""

    id: str = field(default_factory=new_job_id)
    kind: JobKind
    options: Mapping[str, Any]
    inputs: tuple[NewInput, ...] = ()
    folder: FolderRequest | None = None
    storage_id: str | None = None  # id of the folder with the inputs; None if every server process can access them
    webhook_url: str | None = None
    idempotency_key: str | None = None
    content_hash: str | None = None
    key_id: str | None = None  # API key that owns the job


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stored job; times are in seconds since 1970."""

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
    key_id: str | None = None  # API key that owns the job
    progress: float = 0.0  # fraction of the work on all inputs, 0 to 1

    @property
    def counts(self) -> dict[str, int]:
        """Counts of inputs as they appear in responses and events."""
        return {"total": self.num_inputs, "completed": self.num_completed, "failed": self.num_failed}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """An input that this process has leased and may work on until the lease expires."""

    job_id: str
    index: int
    attempt: int  # from 1
    kind: JobKind
    options: Mapping[str, Any] = field(hash=False)
    name: str
    source: InputSource
    location: str
    key_id: str | None  # API key that owns the job


@dataclass(frozen=True, kw_only=True)
class InputRow:
    """A finished input."""

    index: int
    name: str
    state: InputState
    attempts: int
    result: str | None  # JSON
    problem: str | None  # JSON


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """A change of a job. The events of a job are numbered from 1."""

    number: int
    kind: str
    data: str  # JSON


def job_from_row(row: Any, *, progress: float = 0.0) -> Job:
    """Convert a row of the `jobs` table."""
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
