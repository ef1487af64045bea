"""Response models of stored videos: listing, rescoring and search."""

from pydantic import BaseModel, Field

from serve.api.responses import (
    AcceptanceInfo,
    ExampleInfo,
    LabelResult,
    LabelScores,
    ModelInfo,
    NoneOfThese,
    SamplingInfo,
)
from serve.videos.records import Kind, SourceInfo, StoredVideo
from serve.vocabularies.label_warnings import VocabularyWarning


class StoredVideoInfo(BaseModel):
    """A stored video."""

    video_id: str
    kind: Kind = Field(description="`clips` if stored by a classification, `windows` if stored by a timeline.")
    model: str = Field(description="`name@version` of the model that computed the features.")
    engine: str = Field(description="Runtime and precision of the model.")
    stale: bool = Field(
        description="Whether another version of the model is active, or none, so that the features cannot be scored."
    )
    num_windows: int = Field(
        description="Number of windows; for a classification, the number of clips times the number of crops."
    )
    num_bytes: int = Field(description="Size of the stored features.")
    window_seconds: float | None = Field(description="Null for clips.")
    stride_seconds: float | None = Field(description="Null for clips.")
    source: SourceInfo
    tags: list[str]
    created_at: str
    expires_at: str | None = Field(description="Null if the video does not expire.")


class StoredVideoPage(BaseModel):
    """A page of stored videos, newest first."""

    videos: list[StoredVideoInfo]
    next_page_token: str | None


class StoredClassification(LabelScores):
    """Scores of a stored video: those of its clips or windows, combined by the view rule of the model."""

    video_id: str
    num_windows: int
    sampling: SamplingInfo | None = Field(
        description="Sampling of a stored classification; null for the windows of a timeline."
    )
    timing_ms: dict[str, float] = Field(
        description="Milliseconds: text, score (including reading the features), total."
    )


class ScoredVideo(BaseModel):
    """One stored video of a page and its best labels."""

    video_id: str
    num_windows: int
    results: list[LabelResult] = Field(description="Best first, at most `top_k`.")
    none_of_these: NoneOfThese


class ScoredPage(BaseModel):
    """A page of stored videos, newest first, scored with one vocabulary."""

    model: ModelInfo
    notice: str | None = Field(description="Limitation of the model that users should know; null if there is none.")
    vocabulary: str | None = Field(description="`name@version`; null if the request has its own labels.")
    acceptance: AcceptanceInfo | None = Field(description="Null if the vocabulary has none.")
    examples: ExampleInfo | None = Field(description="Null if the vocabulary has none.")
    vocabulary_warnings: list[VocabularyWarning]
    videos: list[ScoredVideo]
    num_stale: int = Field(
        description="Number of videos that match the filter but whose features cannot be scored by this model version."
    )
    next_page_token: str | None
    timing_ms: dict[str, float] = Field(description="Milliseconds: text, score, total.")


class SearchResult(BaseModel):
    """A window that matches the query."""

    video_id: str
    start_seconds: float
    end_seconds: float = Field(description="Exclusive.")
    cosine: float = Field(description="Cosine similarity of the features of the window and of the query.")


class SearchResponse(BaseModel):
    """Windows of stored videos, best first."""

    model: str = Field(description="`name@version` of the model that computed the features.")
    scored_by_cosine: bool = Field(
        description="Whether the model scores videos by this cosine; false if it adapts texts to the video first, as "
        "X-CLIP does."
    )
    num_windows: int = Field(description="Number of windows that were searched.")
    num_stale: int = Field(
        description="Number of videos that match the filter but whose features this model version cannot search."
    )
    results: list[SearchResult]
    timing_ms: dict[str, float] = Field(description="Milliseconds: query, search, total.")


def describe_stored_video(video: StoredVideo, *, is_stale: bool) -> StoredVideoInfo:
    """Describe a stored video."""
    return StoredVideoInfo(
        video_id=video.video_id,
        kind=video.kind,
        model=video.model,
        engine=video.metadata.engine,
        stale=is_stale,
        num_windows=video.num_windows,
        num_bytes=video.num_bytes,
        window_seconds=video.metadata.window_seconds,
        stride_seconds=video.metadata.stride_seconds,
        source=video.metadata.source,
        tags=list(video.tags),
        created_at=video.created_at,
        expires_at=video.expires_at,
    )
