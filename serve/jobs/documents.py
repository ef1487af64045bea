"""Request and response models of the jobs API."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve.jobs.records import Job, JobKind
from serve.jobs.states import JobStatus


class FolderInput(BaseModel):
    """A folder of the server whose files are the inputs of a job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(
        "",
        max_length=1000,
        description="Path relative to the folder that the operator allows; empty for that folder itself.",
    )
    pattern: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Pattern of file names, such as `*.mp4`; by default all files with a video suffix.",
    )


class JobFields(BaseModel):
    """Fields that all requests for a new job have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: JobKind = Field(description="Operation to run on each input.")
    options: dict[str, Any] = Field(
        default={},
        description="Options of `POST /v1/classify`, `/v1/timeline` or `/v1/embeddings`, according to `kind`.",
    )
    webhook_url: str | None = Field(
        None,
        max_length=2000,
        description="URL to call once the job is finished; webhooks must be enabled on the server.",
    )


class JobInput(JobFields):
    """Request for a job whose inputs are in a folder on the server or at URLs."""

    folder: FolderInput | None = Field(None, description="A folder on the server; cannot be combined with `urls`.")
    urls: list[str] | None = Field(
        None, min_length=1, description="URLs of the videos; cannot be combined with `folder`."
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.folder is None) == (self.urls is None):
            raise ValueError("give either `folder` or `urls`; to upload videos, send a form")
        return self


class RequestCounts(BaseModel):
    """Numbers of inputs of a job."""

    total: int
    completed: int
    failed: int


class WebhookAttempt(BaseModel):
    """An attempt to deliver a webhook."""

    created_at: str
    status: int | None = Field(description="HTTP status of the receiver's response; null if there was none.")
    fault: str | None = Field(description="Why there was no response.")
    duration_ms: float


class WebhookInfo(BaseModel):
    """State of the webhook of a job."""

    url: str
    state: Literal["waiting", "pending", "delivered", "failed"] = Field(
        description="waiting: the job is not finished; pending: another attempt will be made."
    )
    next_attempt_at: str | None
    attempts: list[WebhookAttempt]


class JobDocument(BaseModel):
    """A job."""

    id: str
    kind: JobKind
    status: JobStatus
    options: dict[str, Any] = Field(description="Includes the version of the vocabulary once the job is validated.")
    request_counts: RequestCounts
    progress: float = Field(description="Fraction of the work that is done, 0 to 1; running inputs count partially.")
    problem: dict[str, Any] | None = Field(
        description="Why the job failed; errors of single inputs are at `errors_url`."
    )
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str = Field(description="Time at which the job expires if it is not finished.")
    output_url: str
    errors_url: str
    events_url: str


class JobDetails(JobDocument):
    """A job with its webhook."""

    webhook: WebhookInfo | None


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobDocument]
    next_page_token: str | None


def to_job_document(job: Job) -> JobDocument:
    """Return a job as it appears in job lists and events."""
    return JobDocument(**_job_fields(job))


def to_job_details(job: Job, delivery: tuple[Any, Sequence[Any]] | None) -> JobDetails:
    """Return a job with its webhook."""
    return JobDetails(**_job_fields(job), webhook=_to_webhook_info(job, delivery))


def _job_fields(job: Job) -> dict[str, Any]:
    url = f"/v1/jobs/{job.id}"
    return {
        "id": job.id,
        "kind": job.kind,
        "status": job.status,
        "options": dict(job.options),
        "request_counts": RequestCounts(**job.counts),
        "progress": round(job.progress, 4),
        "problem": job.problem,
        "created_at": _optional_isoformat(job.created_at),
        "started_at": _optional_isoformat(job.started_at),
        "finished_at": _optional_isoformat(job.finished_at),
        "expires_at": _optional_isoformat(job.deadline_at),
        "output_url": f"{url}/output",
        "errors_url": f"{url}/errors",
        "events_url": f"{url}/events",
    }


def _to_webhook_info(job: Job, delivery: tuple[Any, Sequence[Any]] | None) -> WebhookInfo | None:
    if job.webhook_url is None:
        return None
    if delivery is None:
        return WebhookInfo(url=job.webhook_url, state="waiting", next_attempt_at=None, attempts=[])
    row, attempts = delivery
    return WebhookInfo(
        url=row.url,
        state=row.state,
        next_attempt_at=_optional_isoformat(row.next_at) if row.state == "pending" else None,
        attempts=[
            WebhookAttempt(
                created_at=_isoformat(item.created_at),
                status=item.status,
                fault=item.fault,
                duration_ms=item.duration_ms,
            )
            for item in attempts
        ],
    )


def _optional_isoformat(seconds: float | None) -> str | None:
    return None if seconds is None else _isoformat(seconds)


def _isoformat(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
