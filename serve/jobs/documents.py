"""Jobs as the API shows them."""

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
        "", max_length=1000, description="Below the folder that the operator allows; that one itself if empty."
    )
    pattern: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Pattern of file names, such as `*.mp4`; by default the suffixes of videos.",
    )


class JobFields(BaseModel):
    """What every request for a job says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: JobKind = Field(description="What is done with each input.")
    options: dict[str, Any] = Field(
        default={}, description="Options of `POST /v1/classify`, `/v1/timeline` or `/v1/embeddings`, by the kind."
    )
    webhook_url: str | None = Field(
        None,
        max_length=2000,
        description="Address that is called once the job is finished; needs a server with webhooks.",
    )


class JobInput(JobFields):
    """A job whose inputs are in a folder of the server, or at URLs."""

    folder: FolderInput | None = Field(None, description="A folder of the server. Excludes `urls`.")
    urls: list[str] | None = Field(None, min_length=1, description="Addresses of the videos. Excludes `folder`.")

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.folder is None) == (self.urls is None):
            raise ValueError("give `folder` or `urls`; videos of your own are sent as a form")
        return self


class RequestCounts(BaseModel):
    """Inputs of a job."""

    total: int
    completed: int
    failed: int


class WebhookAttempt(BaseModel):
    """An attempt to deliver a webhook."""

    created_at: str
    status: int | None = Field(description="Of the receiver's answer; null if there was none.")
    fault: str | None = Field(description="Why there was no answer.")
    duration_ms: float


class WebhookFacts(BaseModel):
    """The webhook of a job."""

    url: str
    state: Literal["waiting", "pending", "delivered", "failed"] = Field(
        description="waiting: the job is not finished; pending: another attempt follows."
    )
    next_attempt_at: str | None
    attempts: list[WebhookAttempt]


class JobDocument(BaseModel):
    """A job."""

    id: str
    kind: JobKind
    status: JobStatus
    options: dict[str, Any] = Field(description="With the version of the vocabulary, once the job is validated.")
    request_counts: RequestCounts
    progress: float = Field(description="Share of the work that is done, 0 to 1; unfinished inputs count in part.")
    problem: dict[str, Any] | None = Field(description="Why the job failed; problems of inputs are in `errors_url`.")
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str = Field(description="When the job expires unless it is finished.")
    output_url: str
    errors_url: str
    events_url: str


class JobDetails(JobDocument):
    """A job with its webhook."""

    webhook: WebhookFacts | None


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobDocument]
    next_page_token: str | None


def document_of(job: Job) -> JobDocument:
    """Return a job as lists and events show it."""
    return JobDocument(**_members(job))


def details_of(job: Job, delivery: tuple[Any, Sequence[Any]] | None) -> JobDetails:
    """Return a job with its webhook."""
    return JobDetails(**_members(job), webhook=_webhook(job, delivery))


def _members(job: Job) -> dict[str, Any]:
    here = f"/v1/jobs/{job.id}"
    return {
        "id": job.id,
        "kind": job.kind,
        "status": job.status,
        "options": dict(job.options),
        "request_counts": RequestCounts(**job.counts),
        "progress": round(job.progress, 4),
        "problem": job.problem,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "expires_at": _time(job.deadline_at),
        "output_url": f"{here}/output",
        "errors_url": f"{here}/errors",
        "events_url": f"{here}/events",
    }


def _webhook(job: Job, delivery: tuple[Any, Sequence[Any]] | None) -> WebhookFacts | None:
    if job.webhook_url is None:
        return None
    if delivery is None:
        return WebhookFacts(url=job.webhook_url, state="waiting", next_attempt_at=None, attempts=[])
    row, attempts = delivery
    return WebhookFacts(
        url=row.url,
        state=row.state,
        next_attempt_at=_time(row.next_at) if row.state == "pending" else None,
        attempts=[
            WebhookAttempt(
                created_at=_required_time(item.created_at),
                status=item.status,
                fault=item.fault,
                duration_ms=item.duration_ms,
            )
            for item in attempts
        ],
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else _required_time(seconds)


def _required_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
