"""Types of documents of jobs.

Generated from the OpenAPI document by `python -m serve.client_source`; do not edit.
"""

from typing import Any, Literal, NotRequired, TypedDict

from serve.client.schemas.common import JobDocument, RequestCounts


class JobDetails(TypedDict):
    """A job with its webhook."""

    id: str
    kind: Literal["classify", "timeline", "embed"]
    status: Literal[
        "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
    ]
    options: dict[str, Any]
    request_counts: "RequestCounts"
    progress: float
    problem: dict[str, Any] | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str
    output_url: str
    errors_url: str
    events_url: str
    webhook: "WebhookInfo | None"


class JobPage(TypedDict):
    """A page of jobs, newest first."""

    jobs: "list[JobDocument]"
    next_page_token: str | None


class WebhookAttempt(TypedDict):
    """An attempt to deliver a webhook."""

    created_at: str
    status: int | None
    fault: str | None
    duration_ms: float


class WebhookInfo(TypedDict):
    """State of the webhook of a job."""

    url: str
    state: Literal["waiting", "pending", "delivered", "failed"]
    next_attempt_at: str | None
    attempts: "list[WebhookAttempt]"


class FolderInput(TypedDict):
    """A folder of the server whose files are the inputs of a job."""

    path: NotRequired[str]
    pattern: NotRequired[str | None]
