"""Answers about stored videos, as OpenAPI documents them."""

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
from serve.videos.store import Kind, SourceFacts, StoredVideo
from serve.vocabularies.label_warnings import VocabularyWarning


class StoredVideoFacts(BaseModel):
    """A stored video."""

    video_id: str
    kind: Kind = Field(description="`clips` of a classification, or `windows` of a timeline.")
    model: str = Field(description="`name@version` of the model that made the features.")
    engine: str = Field(description="Its runtime and precision.")
    stale: bool = Field(
        description="The model answers with another version now, or is not loaded: the features cannot be scored by it."
    )
    num_windows: int = Field(description="Number of windows, or of clips times crops.")
    num_bytes: int = Field(description="Size of the stored features.")
    window_seconds: float | None = Field(description="Null for clips.")
    stride_seconds: float | None = Field(description="Null for clips.")
    source: SourceFacts
    tags: list[str]
    created_at: str
    expires_at: str | None = Field(description="Null for a video that is kept until it is deleted.")


class StoredVideoPage(BaseModel):
    """A page of stored videos, newest first."""

    videos: list[StoredVideoFacts]
    next_page_token: str | None


class StoredClassification(LabelScores):
    """The answer to a stored video: scores of its clips or windows together, by the view rule of the model."""

    video_id: str
    num_windows: int
    sampling: SamplingInfo | None = Field(description="Of a stored classification; null for the windows of a timeline.")
    timing_ms: dict[str, float] = Field(description="text, score (with reading the features), total.")


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
    vocabulary: str | None = Field(description="`name@version`; null for labels of the request alone.")
    acceptance: AcceptanceInfo | None = Field(description="Null if the vocabulary has none.")
    examples: ExampleInfo | None = Field(description="Null if the vocabulary has none.")
    vocabulary_warnings: list[VocabularyWarning]
    videos: list[ScoredVideo]
    num_stale: int = Field(
        description="Videos that the filter selects and that other models or versions made; they are not scored."
    )
    next_page_token: str | None
    timing_ms: dict[str, float] = Field(description="text, score, total.")


class SearchResult(BaseModel):
    """A window that was found."""

    video_id: str
    start_seconds: float
    end_seconds: float = Field(description="Exclusive.")
    cosine: float = Field(description="Of the features of the window and of the query.")


class SearchAnswer(BaseModel):
    """Windows of stored videos, best first."""

    model: str = Field(description="`name@version` of the model that made the features.")
    scored_by_cosine: bool = Field(
        description="Whether the model scores videos by this cosine; false if it adapts texts to the video first, as "
        "X-CLIP does."
    )
    num_windows: int = Field(description="Number of windows that were searched.")
    num_stale: int = Field(
        description="Videos that the filter selects and that other models or versions made; they are not searched."
    )
    results: list[SearchResult]
    timing_ms: dict[str, float] = Field(description="query, search, total.")


def video_facts(video: StoredVideo, *, is_stale: bool) -> StoredVideoFacts:
    """Describe a stored video."""
    return StoredVideoFacts(
        video_id=video.video_id,
        kind=video.kind,
        model=video.model,
        engine=video.facts.engine,
        stale=is_stale,
        num_windows=video.num_windows,
        num_bytes=video.num_bytes,
        window_seconds=video.facts.window_seconds,
        stride_seconds=video.facts.stride_seconds,
        source=video.facts.source,
        tags=list(video.tags),
        created_at=video.created_at,
        expires_at=video.expires_at,
    )
