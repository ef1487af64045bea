"""Types of documents of several resources.

Generated from the OpenAPI document by `python -m serve.client_source`; do not edit.
"""

from typing import Any, Literal, TypedDict


class JobDocument(TypedDict):
    """A job."""

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


class RequestCounts(TypedDict):
    """Numbers of inputs of a job."""

    total: int
    completed: int
    failed: int


class VocabularyWarning(TypedDict):
    """A warning about labels that are unlikely to be scored as intended."""

    kind: Literal["merged_labels", "empty_labels", "label_as_negative"]
    model: str | None
    vocabulary: str | None
    labels: list[str]
    detail: str


class Problem(TypedDict):
    """RFC 9457 problem; extension members are machine-readable details of the error."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
