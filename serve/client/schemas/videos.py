"""Types of documents of classifications, timelines, embeddings, stored videos and searches.

Generated from the OpenAPI document by `python -m serve.client_source`; do not edit.
"""

from typing import Literal, NotRequired, TypedDict

from serve.client.schemas.common import VocabularyWarning


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


class ExampleInfo(TypedDict):
    """How example clips contribute to the logits."""

    num_examples: int
    weight: float
    sharpness: float
    floor: float | None
    chosen_by: Literal["leave_one_out", "assumed_affinity"]
    accuracy_by_text: float | None
    accuracy: float | None


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


class LabelResult(TypedDict):
    """The result of one label."""

    label: str
    score: float | None
    logit: float
    cosine: float
    accepted: bool


class ModelInfo(TypedDict):
    """The model that computed the response."""

    name: str
    version: str
    engine: str


class NoneOfThese(TypedDict):
    """The result for "none of these labels"."""

    score: float | None
    rejected: bool


class Relevance(TypedDict):
    """Relevance of the sampled frames to one label."""

    label: str
    frames: "list[FrameRelevance]"


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
