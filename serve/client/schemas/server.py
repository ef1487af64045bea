"""Types of documents of the server: models, limits and readiness.

Generated from the OpenAPI document by `python -m serve.client_source`; do not edit.
"""

from typing import Any, Literal, NotRequired, TypedDict

from serve.client.schemas.common import VocabularyWarning


class ActivationResponse(TypedDict):
    """Response to an activation or a rollback."""

    default: str
    active: list[str]
    is_done: bool
    staging: "Staging | None"
    warnings: "list[VocabularyWarning]"
    num_warnings: int


class DecodeSettings(TypedDict):
    """Settings and limits of decoding; a request that exceeds a limit fails, other requests are not affected."""

    decoder: NotRequired[Literal["pyav", "decord"]]
    workers: NotRequired[int]
    threads: NotRequired[int]
    queue_size: NotRequired[int]
    deadline_seconds: NotRequired[float]
    max_cpu_seconds: NotRequired[int]
    max_memory_bytes: NotRequired[int]
    max_file_bytes: NotRequired[int]
    max_picture_pixels: NotRequired[int]
    max_aspect_ratio: NotRequired[float]
    max_duration_seconds: NotRequired[float]
    max_frames: NotRequired[int]
    max_corrupt_share: NotRequired[float]
    max_jobs_per_child: NotRequired[int]
    isolation: NotRequired[Literal["auto", "required", "off"]]


class EngineParity(TypedDict):
    """Difference between the features of the engine and the features recorded at export."""

    relative_difference: float
    lowest_cosine: float


class FeedbackLimits(TypedDict):
    """Limits of `/v1/feedback`."""

    enabled: bool
    max_bytes: int
    max_clips: int


class JobLimits(TypedDict):
    """Limits of `/v1/jobs`."""

    max_inputs: int
    max_upload_bytes: int
    max_stored_bytes: int
    max_jobs: int
    deadline_seconds: float
    keep_seconds: float
    folders: bool
    urls: bool
    webhooks: bool


class Limits(TypedDict):
    """Limits of one request."""

    max_upload_bytes: NotRequired[int]
    max_field_bytes: NotRequired[int]
    max_candidate_labels: NotRequired[int]
    max_templates: NotRequired[int]
    max_label_chars: NotRequired[int]
    max_num_clips: NotRequired[int]
    max_in_flight: NotRequired[int]
    request_deadline_seconds: NotRequired[float]
    bank_cache_bytes: NotRequired[int]
    kept_text_bytes: NotRequired[int]
    kept_clip_bytes: NotRequired[int]
    vocabularies: "VocabularySettings"
    feedback: "FeedbackLimits"
    timeline: "TimelineSettings"
    jobs: "JobLimits"
    videos: "VideoStoreSettings"
    decode: "DecodeSettings"
    containers: list[str]
    codecs: list[str]


class ModelList(TypedDict):
    """Models, their versions and aliases."""

    default: str
    aliases: dict[str, str]
    previous: dict[str, str]
    staging: "Staging | None"
    models: "list[ModelVersion]"


class ModelVersion(TypedDict):
    """One version in the repository folder."""

    name: str
    version: str
    loaded: bool
    active: bool
    fault: NotRequired[str | None]
    notice: NotRequired[str | None]
    contract: NotRequired[dict[str, Any] | None]
    engine: NotRequired[str | None]
    engine_facts: NotRequired[dict[str, str] | None]
    engine_parity: NotRequired["EngineParity | None"]
    rejected_engines: NotRequired[dict[str, str] | None]


class Readiness(TypedDict):
    """Response of a server that is ready."""

    status: str
    done: list[str]
    engines: dict[str, str]
    isolation: list[str]
    degraded: list[str]


class Staging(TypedDict):
    """Progress of one activation, shown by `GET /v1/models`."""

    reference: str
    stage: NotRequired[Literal["loading", "encoding", "active", "failed"]]
    done: NotRequired[int]
    total: NotRequired[int]
    fault: NotRequired[str | None]
    seconds: NotRequired[float]


class TimelineSettings(TypedDict):
    """Limits of a timeline, and the share of the server that timelines may use."""

    max_concurrent: NotRequired[int]
    max_upload_bytes: NotRequired[int]
    max_windows: NotRequired[int]
    deadline_seconds: NotRequired[float]
    windows_per_run: NotRequired[int]


class VideoStoreSettings(TypedDict):
    """Videos whose features are stored at the request of callers, to be scored again and searched."""

    max_bytes: NotRequired[int]
    max_tags: NotRequired[int]
    keep_seconds: NotRequired[int | None]
    sweep_seconds: NotRequired[float]
    memory_bytes: NotRequired[int]


class VocabularySettings(TypedDict):
    """Limits and behaviour of editable vocabularies."""

    max_labels: NotRequired[int]
    max_phrases_per_label: NotRequired[int]
    max_bytes: NotRequired[int]
    keep_versions: NotRequired[int]
    max_examples_per_label: NotRequired[int]
    max_examples: NotRequired[int]
    max_example_bytes: NotRequired[int]
    max_calibration_clips: NotRequired[int]
    calibration_deadline_seconds: NotRequired[float]
    poll_seconds: NotRequired[float]
