"""Types of the options that requests accept.

Generated from the OpenAPI document by `python -m serve.client_source`; do not edit.
"""

from typing import Any, Literal, NotRequired, TypedDict

from serve.client.schemas.vocabularies import Acceptance, LabelInput, Rename


class ClassifyOptions(TypedDict):
    """Options of `POST /v1/classify`."""

    store: NotRequired[bool]
    expires_in_seconds: NotRequired[int | None]
    tags: NotRequired[list[str] | None]
    vocabulary: NotRequired[str | None]
    candidate_labels: NotRequired[list[str] | None]
    hypothesis_template: NotRequired[str | None]
    templates: NotRequired[list[str] | None]
    model: NotRequired[str | None]
    top_k: NotRequired[int]
    function_to_apply: NotRequired[Literal["softmax", "sigmoid", "none"] | None]
    threshold: NotRequired[float | None]
    num_clips: NotRequired[int]
    num_crops: NotRequired[Literal[1, 3]]


class TimelineOptions(TypedDict):
    """Options of `POST /v1/timeline`."""

    store: NotRequired[bool]
    expires_in_seconds: NotRequired[int | None]
    tags: NotRequired[list[str] | None]
    vocabulary: NotRequired[str | None]
    candidate_labels: NotRequired[list[str] | None]
    hypothesis_template: NotRequired[str | None]
    templates: NotRequired[list[str] | None]
    model: NotRequired[str | None]
    function_to_apply: NotRequired[Literal["softmax", "sigmoid"] | None]
    view: NotRequired[Literal["segments", "windows", "both"]]
    top_k: NotRequired[int | None]
    threshold_on: NotRequired[float | None]
    threshold_off: NotRequired[float | None]
    min_segment_seconds: NotRequired[float | None]
    gap_seconds: NotRequired[float | None]
    window_seconds: NotRequired[float | None]
    stride_seconds: NotRequired[float | None]
    relevance: NotRequired[bool]
    relevance_label: NotRequired[str | None]


class TextEmbeddingOptions(TypedDict):
    """Options of `POST /v1/embeddings`."""

    model: NotRequired[str | None]
    encoding_format: NotRequired[Literal["float", "base64"]]
    normalize: NotRequired[bool]


class VideoEmbeddingOptions(TypedDict):
    """Options of `POST /v1/embeddings`."""

    model: NotRequired[str | None]
    encoding_format: NotRequired[Literal["float", "base64"]]
    normalize: NotRequired[bool]
    num_clips: NotRequired[int]
    num_crops: NotRequired[Literal[1, 3]]


class JobFilter(TypedDict):
    """Options of `GET /v1/jobs`."""

    status: NotRequired[
        Literal["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]
        | None
    ]
    kind: NotRequired[Literal["classify", "timeline", "embed"] | None]


class StoredVideoFilter(TypedDict):
    """Options of `GET /v1/videos`."""

    tag: NotRequired[str | None]
    model: NotRequired[str | None]
    created_after: NotRequired[str | None]
    created_before: NotRequired[str | None]


class ScoreOptions(TypedDict):
    """Options of `POST /v1/videos/{video_id}:classify`."""

    vocabulary: NotRequired[str | None]
    candidate_labels: NotRequired[list[str] | None]
    hypothesis_template: NotRequired[str | None]
    templates: NotRequired[list[str] | None]
    model: NotRequired[str | None]
    top_k: NotRequired[int]
    function_to_apply: NotRequired[Literal["softmax", "sigmoid", "none"] | None]
    threshold: NotRequired[float | None]


class SegmentOptions(TypedDict):
    """Options of `POST /v1/videos/{video_id}:timeline`."""

    vocabulary: NotRequired[str | None]
    candidate_labels: NotRequired[list[str] | None]
    hypothesis_template: NotRequired[str | None]
    templates: NotRequired[list[str] | None]
    model: NotRequired[str | None]
    function_to_apply: NotRequired[Literal["softmax", "sigmoid"] | None]
    view: NotRequired[Literal["segments", "windows", "both"]]
    top_k: NotRequired[int | None]
    threshold_on: NotRequired[float | None]
    threshold_off: NotRequired[float | None]
    min_segment_seconds: NotRequired[float | None]
    gap_seconds: NotRequired[float | None]


class ScorePageOptions(TypedDict):
    """Options of `POST /v1/videos:classify`."""

    tag: NotRequired[str | None]
    created_after: NotRequired[str | None]
    created_before: NotRequired[str | None]
    vocabulary: NotRequired[str | None]
    candidate_labels: NotRequired[list[str] | None]
    hypothesis_template: NotRequired[str | None]
    templates: NotRequired[list[str] | None]
    model: NotRequired[str | None]
    top_k: NotRequired[int]
    function_to_apply: NotRequired[Literal["softmax", "sigmoid", "none"] | None]
    threshold: NotRequired[float | None]


class SearchOptions(TypedDict):
    """Options of `GET /v1/search`."""

    top_k: NotRequired[int]
    tag: NotRequired[str | None]
    created_after: NotRequired[str | None]
    created_before: NotRequired[str | None]
    model: NotRequired[str | None]


class VocabularyFields(TypedDict):
    """Options of `PUT /v1/vocabularies/{name}`."""

    templates: NotRequired[list[str] | None]
    phrase_rule: NotRequired[Literal["best", "mean"]]
    background: NotRequired[list[str]]
    acceptance: NotRequired["Acceptance | None"]
    description: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]


class VocabularyChanges(TypedDict):
    """Options of `PATCH /v1/vocabularies/{name}`."""

    remove: NotRequired[list[str]]
    rename: NotRequired["list[Rename]"]
    update: NotRequired["list[LabelInput]"]
    add: NotRequired["list[str | LabelInput]"]
    templates: NotRequired[list[str] | None]
    phrase_rule: NotRequired[Literal["best", "mean"] | None]
    background: NotRequired[list[str] | None]
    acceptance: NotRequired["Acceptance | None"]
    description: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any] | None]


class CalibrateOptions(TypedDict):
    """Options of `POST /v1/vocabularies/{name}:calibrate`."""

    groups: NotRequired[list[str | None]]
    false_accept_rate: NotRequired[float]
    function_to_apply: NotRequired[Literal["softmax", "sigmoid"] | None]
    num_clips: NotRequired[int]
    num_crops: NotRequired[Literal[1, 3]]
    criterion: NotRequired[Literal["score", "logit"] | None]
    per_label: NotRequired[bool]
    model: NotRequired[str | None]
    dry_run: NotRequired[bool]


class FeedbackOptions(TypedDict):
    """Options of `POST /v1/feedback`."""

    vocabulary: NotRequired[str | None]
    predicted: NotRequired[str | None]
    request_id: NotRequired[str | None]
    note: NotRequired[str | None]
