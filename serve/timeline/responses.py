"""Response models of timelines."""

from pydantic import BaseModel, Field

from serve.api.responses import AcceptanceInfo, ExampleInfo, LabelResult, ModelInfo
from serve.vocabularies.label_warnings import VocabularyWarning


class TimelineVideo(BaseModel):
    """The video of a timeline."""

    num_frames: int = Field(description="Number of displayed frames, counted rather than read from a header.")
    fps: float
    duration_seconds: float
    width: int
    height: int
    truncated: bool = Field(description="The file is truncated; the timeline ends where the data ends.")
    num_corrupt_frames: int = Field(
        description="Number of sampled frames that the decoder concealed in part, or that depend on such frames."
    )


class TimelineSegment(BaseModel):
    """A part of the video in which one label was detected; segments of different labels may overlap."""

    label: str
    start_seconds: float = Field(description="Presentation time relative to the first displayed frame.")
    end_seconds: float = Field(description="Exclusive.")
    start_frame: int = Field(description="0-based.")
    end_frame: int = Field(description="Exclusive.")
    score: float = Field(description="Mean score of the windows at or above the closing threshold.")
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
    """Relevance of one frame to the label, computed for a clip that repeats this frame."""

    frame: int
    seconds: float
    logit: float
    cosine: float


class Relevance(BaseModel):
    """Relevance of the sampled frames to one label."""

    label: str
    frames: list[FrameRelevance] = Field(description="Frames that windows sample, in ascending order.")


class SegmentRuleInfo(BaseModel):
    """How windows were merged into segments."""

    threshold_on: float | None = Field(
        description="Score at which segments open; null if thresholds differ between labels or apply to logits."
    )
    threshold_off: float | None = Field(
        description="Score below which segments close; null in the same cases as `threshold_on`."
    )
    best_label_opens: bool = Field(
        description="Whether labels without a threshold open a segment only as the best label of a window."
    )
    min_segment_seconds: float
    gap_seconds: float


class TimelineResponse(BaseModel):
    """The timeline of a video."""

    model: ModelInfo
    notice: str | None = Field(description="Limitation of the model that users should know; null if there is none.")
    vocabulary: str | None = Field(description="`name@version`; null if the request has its own labels.")
    video: TimelineVideo
    window_seconds: float
    stride_seconds: float
    num_windows: int
    segment_rule: SegmentRuleInfo | None = Field(description="Null for `view=windows`.")
    segments: list[TimelineSegment] | None = Field(description="Sorted by start; null for `view=windows`.")
    windows: list[TimelineWindow] | None = Field(description="Sorted by start; null for `view=segments`.")
    relevance: Relevance | None = Field(description="Null unless `relevance` is set.")
    acceptance: AcceptanceInfo | None = Field(description="Null if the vocabulary has none.")
    examples: ExampleInfo | None = Field(description="Null if the vocabulary has none.")
    vocabulary_warnings: list[VocabularyWarning] = Field(description="Warnings about `candidate_labels`, at most 20.")
    video_id: str | None = Field(None, description="Id of the stored features; null unless `store` is set.")
    timing_ms: dict[str, float] = Field(
        description="Milliseconds. upload; decode_wait, engine, score, store (times for which the timeline waited, one "
        "after the other); total. For a stored video: load, score, total."
    )
