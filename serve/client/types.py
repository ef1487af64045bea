"""Types of the documents that the server returns, and of the options that requests accept.

Generated from the OpenAPI document by `python -m serve.client_source`; do not edit.
"""

from typing import Any, Literal, NotRequired, TypedDict


class Acceptance(TypedDict):
    """The scaling of logits and the threshold that accepted labels must reach."""

    criterion: NotRequired[Literal["score", "logit"]]
    threshold: NotRequired[float | None]
    temperature: NotRequired[float]
    bias: NotRequired[float]
    fitted: NotRequired["Fit | None"]


class AcceptanceInfo(TypedDict):
    """How the vocabulary decides which labels are accepted."""

    applied: bool
    obstacle: str | None
    criterion: Literal["score", "logit"]
    threshold: float | None
    temperature: float
    bias: float
    false_accept_rate: float | None
    false_accept_interval: tuple[float, float] | None
    caveats: list[str]


class ActivationResponse(TypedDict):
    """Response to an activation or a rollback."""

    default: str
    active: list[str]
    is_done: bool
    staging: "Staging | None"
    warnings: "list[VocabularyWarning]"
    num_warnings: int


class Calibration(TypedDict):
    """Fitted values, and the metrics measured on the clips they were fitted on."""

    criterion: Literal["score", "logit"]
    scale: "LogitScaling"
    threshold: float | None
    label_thresholds: dict[str, float]
    false_accept_interval: tuple[float, float]
    false_accepts: int
    num_unknown_used: int
    true_accept_rate: float | None
    accuracy: float | None
    auroc: float | None
    fpr_at_95_tpr: float | None
    calibration_error_before: float | None
    calibration_error_after: float | None
    reliability_before: "list[ReliabilityBin]"
    reliability_after: "list[ReliabilityBin]"
    curve: list[tuple[float, float]]


class CalibrationDryRun(TypedDict):
    """Response to a calibration with `dry_run`."""

    acceptance: "Acceptance"
    label_thresholds: dict[str, float]
    calibration: "Calibration"
    name: str
    version: int
    dry_run: bool


class CalibrationResponse(TypedDict):
    """Response to a calibration whose result was stored."""

    acceptance: "Acceptance"
    label_thresholds: dict[str, float]
    calibration: "Calibration"
    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    is_current: bool


class ChangeResponse(TypedDict):
    """Response to a change."""

    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    is_current: bool


class Classification(TypedDict):
    """Response to a classification."""

    model: "ModelInfo"
    notice: str | None
    vocabulary: str | None
    results: "list[LabelResult]"
    none_of_these: "NoneOfThese"
    acceptance: "AcceptanceInfo | None"
    examples: "ExampleInfo | None"
    vocabulary_warnings: "list[VocabularyWarning]"
    sampling: "SamplingInfo"
    video_id: NotRequired[str | None]
    timing_ms: dict[str, float]


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


class Embedding(TypedDict):
    """One embedding."""

    object: NotRequired[Literal["embedding"]]
    index: int
    embedding: list[float] | str


class EmbeddingList(TypedDict):
    """Embeddings in the order of the input."""

    object: NotRequired[Literal["list"]]
    model: str
    data: "list[Embedding]"
    scored_by_cosine: bool
    usage: "Usage"


class EncodingProgress(TypedDict):
    """Progress of encoding a new version of a vocabulary on this server process."""

    version: int
    done: NotRequired[int]
    total: NotRequired[int]
    fault: NotRequired[str | None]


class EngineParity(TypedDict):
    """Difference between the features of the engine and the features recorded at export."""

    relative_difference: float
    lowest_cosine: float


class Example(TypedDict):
    """A clip that shows a label; the database stores its bytes by SHA-256."""

    example_id: str
    sha256: str
    filename: str
    num_bytes: int
    created_at: str


class ExampleInfo(TypedDict):
    """How example clips contribute to the logits."""

    num_examples: int
    weight: float
    sharpness: float
    floor: float | None
    chosen_by: Literal["leave_one_out", "assumed_affinity"]
    accuracy_by_text: float | None
    accuracy: float | None


class ExampleInput(TypedDict):
    """An existing example of the label, as returned by GET; new clips are added by POST."""

    example_id: str
    sha256: NotRequired[str | None]
    filename: NotRequired[str | None]
    num_bytes: NotRequired[int | None]
    created_at: NotRequired[str | None]


class ExampleList(TypedDict):
    """The example clips of a label."""

    label_id: str
    label: str
    examples: "list[Example]"


class ExamplesResponse(TypedDict):
    """Response to an upload of examples."""

    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    is_current: bool
    examples: "list[Example]"


class Fault(TypedDict):
    """A fault, with the paths of the affected values."""

    kind: Literal["same_labels", "empty_label", "forbidden_character", "unreadable_value"]
    places: list[str]
    texts: list[str]
    detail: str


class FeedbackLimits(TypedDict):
    """Limits of `/v1/feedback`."""

    enabled: bool
    max_bytes: int
    max_clips: int


class FeedbackPage(TypedDict):
    """Size of the stored feedback and one page of its rows, newest first."""

    num_clips: int
    num_bytes: int
    max_clips: int
    max_bytes: int
    labels: dict[str, int]
    feedback: "list[FeedbackRow]"
    next_page_token: str | None


class FeedbackRow(TypedDict):
    """A stored clip with its correct label."""

    id: str
    label: str
    vocabulary: str | None
    is_new_label: bool | None
    predicted: str | None
    request_id: str | None
    note: str | None
    num_bytes: int
    sha256: str
    created_at: str


class Fit(TypedDict):
    """The data that thresholds and temperature were fitted on, and the metrics measured on that data."""

    model: str
    function: Literal["softmax", "sigmoid"]
    templates: list[str]
    num_clips: int
    num_crops: int
    vocabulary_version: int
    vocabulary_digest: str
    num_known: int
    num_unknown: int
    num_known_independent: NotRequired[int | None]
    num_unknown_independent: NotRequired[int | None]
    num_copies: NotRequired[int | None]
    false_accept_rate: float
    false_accept_interval: tuple[float, float]
    true_accept_rate: float | None
    accuracy: float | None
    auroc: float | None
    fpr_at_95_tpr: float | None
    calibration_error_before: float | None
    calibration_error_after: float | None
    fitted_at: str


class FrameRelevance(TypedDict):
    """Relevance of one frame to the label, computed for a clip that repeats this frame."""

    frame: int
    seconds: float
    logit: float
    cosine: float


class GoogleAnnotateVideoResponse(TypedDict):
    """The timeline of a video as `AnnotateVideoResponse`."""

    annotationResults: "list[GoogleAnnotationResults]"


class GoogleAnnotationResults(TypedDict):
    """The annotations of one video."""

    segment: "GoogleVideoSegment"
    segmentLabelAnnotations: "list[GoogleSegmentAnnotation] | None"
    frameLabelAnnotations: "list[GoogleFrameAnnotation] | None"


class GoogleEntity(TypedDict):
    """A label."""

    entityId: NotRequired[str]
    description: str


class GoogleFrameAnnotation(TypedDict):
    """The centres of all windows in which one label was detected."""

    entity: "GoogleEntity"
    frames: "list[GoogleLabelFrame]"


class GoogleLabelFrame(TypedDict):
    """The centre of one window in which a label was detected."""

    timeOffset: str
    confidence: float


class GoogleLabelSegment(TypedDict):
    """One segment in which a label was detected."""

    segment: "GoogleVideoSegment"
    confidence: float


class GoogleSegmentAnnotation(TypedDict):
    """All segments in which one label was detected."""

    entity: "GoogleEntity"
    segments: "list[GoogleLabelSegment]"


class GoogleVideoSegment(TypedDict):
    """A part of the video; offsets are seconds with the suffix `s`."""

    startTimeOffset: str
    endTimeOffset: str


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


class JobPage(TypedDict):
    """A page of jobs, newest first."""

    jobs: "list[JobDocument]"
    next_page_token: str | None


class Label(TypedDict):
    """One class: its name, synonyms, and negative phrases that compete with it."""

    label_id: str
    name: str
    synonyms: NotRequired[list[str]]
    negatives: NotRequired[list[str]]
    threshold: NotRequired[float | None]
    examples: NotRequired["list[Example]"]


class LabelInput(TypedDict):
    """A label; a plain string stands for a label that has only this name."""

    name: str
    label_id: NotRequired[str | None]
    synonyms: NotRequired[list[str]]
    negatives: NotRequired[list[str]]
    threshold: NotRequired[float | None]
    examples: NotRequired["list[ExampleInput] | None"]


class LabelResult(TypedDict):
    """The result of one label."""

    label: str
    score: float | None
    logit: float
    cosine: float
    accepted: bool


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


class ListedVocabulary(TypedDict):
    """One vocabulary in the list."""

    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    is_default: bool


class LogitScaling(TypedDict):
    """Calibration of logits: score = function((logit - bias) / temperature)."""

    temperature: NotRequired[float]
    bias: NotRequired[float]


class ModelInfo(TypedDict):
    """The model that computed the response."""

    name: str
    version: str
    engine: str


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


class NoneOfThese(TypedDict):
    """The result for "none of these labels"."""

    score: float | None
    rejected: bool


class Readiness(TypedDict):
    """Response of a server that is ready."""

    status: str
    done: list[str]
    engines: dict[str, str]
    isolation: list[str]
    degraded: list[str]


class Relevance(TypedDict):
    """Relevance of the sampled frames to one label."""

    label: str
    frames: "list[FrameRelevance]"


class ReliabilityBin(TypedDict):
    """Clips whose confidence lies in one bin."""

    confidence: float
    accuracy: float
    count: int


class RequestCounts(TypedDict):
    """Numbers of inputs of a job."""

    total: int
    completed: int
    failed: int


class SamplingInfo(TypedDict):
    """The sampled frames."""

    num_frames: int
    fps: float
    duration_seconds: float
    width: int
    height: int
    frame_indices: list[list[int]]
    pts_seconds: list[list[float]]
    num_clips: int
    num_crops: int
    num_corrupt_frames: int


class ScoredPage(TypedDict):
    """A page of stored videos, newest first, scored with one vocabulary."""

    model: "ModelInfo"
    notice: str | None
    vocabulary: str | None
    acceptance: "AcceptanceInfo | None"
    examples: "ExampleInfo | None"
    vocabulary_warnings: "list[VocabularyWarning]"
    videos: "list[ScoredVideo]"
    num_stale: int
    next_page_token: str | None
    timing_ms: dict[str, float]


class ScoredVideo(TypedDict):
    """One stored video of a page and its best labels."""

    video_id: str
    num_windows: int
    results: "list[LabelResult]"
    none_of_these: "NoneOfThese"


class SearchResponse(TypedDict):
    """Windows of stored videos, best first."""

    model: str
    scored_by_cosine: bool
    num_windows: int
    num_stale: int
    results: "list[SearchResult]"
    timing_ms: dict[str, float]


class SearchResult(TypedDict):
    """A window that matches the query."""

    video_id: str
    start_seconds: float
    end_seconds: float
    cosine: float


class SegmentRuleInfo(TypedDict):
    """How windows were merged into segments."""

    threshold_on: float | None
    threshold_off: float | None
    best_label_opens: bool
    min_segment_seconds: float
    gap_seconds: float


class SourceInfo(TypedDict):
    """Properties of the file of a stored video."""

    filename: str | None
    num_bytes: int
    num_frames: int
    fps: float
    duration_seconds: float
    width: int
    height: int
    truncated: bool
    num_corrupt_frames: int


class Staging(TypedDict):
    """Progress of one activation, shown by `GET /v1/models`."""

    reference: str
    stage: NotRequired[Literal["loading", "encoding", "active", "failed"]]
    done: NotRequired[int]
    total: NotRequired[int]
    fault: NotRequired[str | None]
    seconds: NotRequired[float]


class StoredClassification(TypedDict):
    """Scores of a stored video: those of its clips or windows, combined by the view rule of the model."""

    model: "ModelInfo"
    notice: str | None
    vocabulary: str | None
    results: "list[LabelResult]"
    none_of_these: "NoneOfThese"
    acceptance: "AcceptanceInfo | None"
    examples: "ExampleInfo | None"
    vocabulary_warnings: "list[VocabularyWarning]"
    video_id: str
    num_windows: int
    sampling: "SamplingInfo | None"
    timing_ms: dict[str, float]


class StoredFeedback(TypedDict):
    """Response to a correction."""

    id: str
    label: str
    vocabulary: str | None
    is_new_label: bool | None
    predicted: str | None
    request_id: str | None
    note: str | None
    num_bytes: int
    sha256: str
    created_at: str
    is_duplicate: bool


class StoredVideoInfo(TypedDict):
    """A stored video."""

    video_id: str
    kind: Literal["clips", "windows"]
    model: str
    engine: str
    stale: bool
    num_windows: int
    num_bytes: int
    window_seconds: float | None
    stride_seconds: float | None
    source: "SourceInfo"
    tags: list[str]
    created_at: str
    expires_at: str | None


class StoredVideoPage(TypedDict):
    """A page of stored videos, newest first."""

    videos: "list[StoredVideoInfo]"
    next_page_token: str | None


class TimelineResponse(TypedDict):
    """The timeline of a video."""

    model: "ModelInfo"
    notice: str | None
    vocabulary: str | None
    video: "TimelineVideo"
    window_seconds: float
    stride_seconds: float
    num_windows: int
    segment_rule: "SegmentRuleInfo | None"
    segments: "list[TimelineSegment] | None"
    windows: "list[TimelineWindow] | None"
    relevance: "Relevance | None"
    acceptance: "AcceptanceInfo | None"
    examples: "ExampleInfo | None"
    vocabulary_warnings: "list[VocabularyWarning]"
    video_id: NotRequired[str | None]
    timing_ms: dict[str, float]


class TimelineSegment(TypedDict):
    """A part of the video in which one label was detected; segments of different labels may overlap."""

    label: str
    start_seconds: float
    end_seconds: float
    start_frame: int
    end_frame: int
    score: float
    peak_seconds: float


class TimelineSettings(TypedDict):
    """Limits of a timeline, and the share of the server that timelines may use."""

    max_concurrent: NotRequired[int]
    max_upload_bytes: NotRequired[int]
    max_windows: NotRequired[int]
    deadline_seconds: NotRequired[float]
    windows_per_run: NotRequired[int]


class TimelineVideo(TypedDict):
    """The video of a timeline."""

    num_frames: int
    fps: float
    duration_seconds: float
    width: int
    height: int
    truncated: bool
    num_corrupt_frames: int


class TimelineWindow(TypedDict):
    """One window and its best labels."""

    start_seconds: float
    end_seconds: float
    start_frame: int
    end_frame: int
    none_of_these: float | None
    results: "list[LabelResult]"


class Usage(TypedDict):
    """Number of tokens that were encoded."""

    prompt_tokens: int
    total_tokens: int


# Differences between two versions.
VersionDifference = TypedDict(
    "VersionDifference",
    {
        "name": str,
        "from": int,
        "to": int,
        "added": list[str],
        "removed": list[str],
        "renamed": list[list[str]],
        "changed": list[str],
        "moved": bool,
        "fields": list[str],
    },
)


class VersionInfo(TypedDict):
    """Metadata of one version."""

    version: int
    num_labels: int
    author: str
    note: str
    created_at: str


class VersionPage(TypedDict):
    """A page of the versions of a vocabulary, newest first."""

    versions: "list[VersionInfo]"
    next_page_token: str | None


class VideoStoreSettings(TypedDict):
    """Videos whose features are stored at the request of callers, to be scored again and searched."""

    max_bytes: NotRequired[int]
    max_tags: NotRequired[int]
    keep_seconds: NotRequired[int | None]
    sweep_seconds: NotRequired[float]
    memory_bytes: NotRequired[int]


class VocabularyDocument(TypedDict):
    """One version with its labels."""

    name: str
    version: int
    latest: int
    current: int | None
    encoding: "EncodingProgress | None"
    num_labels: int
    description: str
    author: str
    note: str
    created_at: str
    labels: "list[Label]"
    templates: list[str] | None
    phrase_rule: Literal["best", "mean"]
    background: list[str]
    acceptance: "Acceptance | None"
    metadata: dict[str, Any]
    problems: "list[Fault]"
    num_problems: int
    warnings: "list[VocabularyWarning]"
    num_warnings: int


class VocabularyInput(TypedDict):
    """A complete vocabulary."""

    labels: "list[str | LabelInput]"
    templates: NotRequired[list[str] | None]
    phrase_rule: NotRequired[Literal["best", "mean"]]
    background: NotRequired[list[str]]
    acceptance: NotRequired["Acceptance | None"]
    description: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]


class VocabularyPage(TypedDict):
    """A page of the vocabularies, sorted by name."""

    vocabularies: "list[ListedVocabulary]"
    next_page_token: str | None


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


class VocabularyWarning(TypedDict):
    """A warning about labels that are unlikely to be scored as intended."""

    kind: Literal["merged_labels", "empty_labels", "label_as_negative"]
    model: str | None
    vocabulary: str | None
    labels: list[str]
    detail: str


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


class Problem(TypedDict):
    """RFC 9457 problem; extension members are machine-readable details of the error."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


class FolderInput(TypedDict):
    """A folder of the server whose files are the inputs of a job."""

    path: NotRequired[str]
    pattern: NotRequired[str | None]


class Rename(TypedDict):
    """A new name for a label, which keeps its identity."""

    label: str
    to: str


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
