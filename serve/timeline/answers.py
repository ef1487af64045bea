"""Answers of timelines, as OpenAPI documents them."""

from pydantic import BaseModel, Field

from serve.api.responses import AcceptanceInfo, ExampleInfo, LabelResult, ModelInfo
from serve.vocabularies.label_warnings import VocabularyWarning


class TimelineVideo(BaseModel):
    """The video of a timeline."""

    num_frames: int = Field(description="Number of shown frames, counted and not read from a header.")
    fps: float
    duration_seconds: float
    width: int
    height: int
    truncated: bool = Field(description="The file breaks off; the timeline ends there.")
    num_corrupt_frames: int = Field(
        description="Number of sampled frames that the decoder concealed in part, or that depend on such frames."
    )


class TimelineSegment(BaseModel):
    """A stretch of the video that shows one label; segments of different labels may overlap."""

    label: str
    start_seconds: float = Field(description="From the first shown frame, by presentation times.")
    end_seconds: float = Field(description="Exclusive.")
    start_frame: int = Field(description="0-based.")
    end_frame: int = Field(description="Exclusive.")
    score: float = Field(description="Mean of the windows at or above the lower threshold.")
    peak_seconds: float = Field(description="Centre of the window with the highest score.")


class TimelineWindow(BaseModel):
    """One window and its best labels."""

    start_seconds: float
    end_seconds: float = Field(description="Exclusive.")
    start_frame: int
    end_frame: int = Field(description="Exclusive.")
    none_of_these: float | None = Field(
        description="Score of the vocabulary's background and negative phrases; null if it has none."
    )
    results: list[LabelResult] = Field(description="Best first, at most `top_k`.")


class FrameRelevance(BaseModel):
    """How relevant one frame is to the label, as a clip that shows this frame all the time."""

    frame: int
    seconds: float
    logit: float
    cosine: float


class Relevance(BaseModel):
    """Relevance of the sampled frames to one label."""

    label: str
    frames: list[FrameRelevance] = Field(description="Ascending; the frames that windows sample.")


class SegmentRuleInfo(BaseModel):
    """How windows were joined to segments."""

    threshold_on: float | None = Field(
        description="Score at which segments open; null if labels have thresholds of their own, or of logits."
    )
    threshold_off: float | None = Field(description="Score below which segments close; null as above.")
    best_label_opens: bool = Field(
        description="Only the best label of a window opens a segment, as there is no threshold for it."
    )
    min_segment_seconds: float
    gap_seconds: float


class TimelineAnswer(BaseModel):
    """The timeline of a video."""

    model: ModelInfo
    notice: str | None = Field(description="Limitation of the model that users should know; null if there is none.")
    vocabulary: str | None = Field(description="`name@version`; null for labels of the request alone.")
    video: TimelineVideo
    window_seconds: float
    stride_seconds: float
    num_windows: int
    segment_rule: SegmentRuleInfo | None = Field(description="Null under `view=windows`.")
    segments: list[TimelineSegment] | None = Field(description="By start; null under `view=windows`.")
    windows: list[TimelineWindow] | None = Field(description="By start; null under `view=segments`.")
    relevance: Relevance | None = Field(description="Null unless asked for.")
    acceptance: AcceptanceInfo | None = Field(description="Null if the vocabulary has none.")
    examples: ExampleInfo | None = Field(description="Null if the vocabulary has none.")
    vocabulary_warnings: list[VocabularyWarning] = Field(description="Of `candidate_labels`, at most 20.")
    video_id: str | None = Field(None, description="Id of the stored features; null unless `store` is set.")
    timing_ms: dict[str, float] = Field(
        description="upload; decode_wait, engine, score, store (what the timeline waited for, one after the other); "
        "total. Of a stored video: load, score, total."
    )
