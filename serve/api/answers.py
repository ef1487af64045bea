"""Answers of the server, as OpenAPI documents them. Score, logit and cosine are always separate."""

from typing import Literal

from pydantic import BaseModel, Field

from serve.vocabularies.acceptance import Criterion
from serve.vocabularies.label_warnings import VocabularyWarning


class ModelFacts(BaseModel):
    """The model that answered."""

    name: str
    version: str
    engine: str = Field(description="Runtime and precision, e.g. `openvino-bf16`.")


class LabelResult(BaseModel):
    """One label."""

    label: str
    score: float | None = Field(description="After `function_to_apply`; null under `none`.")
    logit: float = Field(
        description="Before `function_to_apply`, with scale and examples: mean over views and templates."
    )
    cosine: float = Field(description="Cosine of video and prompt: mean over views and templates.")
    accepted: bool = Field(
        description="The score reaches the threshold and exceeds that of `none_of_these`, as far as there are any."
    )


class NoneOfThese(BaseModel):
    """Whether the answer is 'none of these'."""

    score: float | None = Field(
        description="Score of the vocabulary's background and negative phrases; null if it has none."
    )
    rejected: bool = Field(description="No label is accepted.")


class AcceptanceFacts(BaseModel):
    """How the vocabulary decides which labels are accepted."""

    applied: bool = Field(description="Whether it applies to this answer; `obstacle` states why not.")
    obstacle: str | None
    criterion: Criterion = Field(description="The value that thresholds apply to.")
    threshold: float | None = Field(description="Threshold of labels without one of their own.")
    temperature: float = Field(description="score = function((logit - bias) / temperature).")
    bias: float
    false_accept_rate: float | None = Field(
        description="Share of clips without any of the labels that it was fitted for."
    )
    false_accept_interval: tuple[float, float] | None = Field(description="95 % interval of the true share.")
    caveats: list[str] = Field(description="Changes since the fit, because of which the share may not hold.")


class ExampleFacts(BaseModel):
    """How example clips add to the text."""

    num_examples: int
    weight: float = Field(
        description="Logits added for a label if the video equals the mean of its examples and there is no floor."
    )
    sharpness: float = Field(description="The addition falls as exp(-sharpness * (1 - cosine)).")
    floor: float | None = Field(description="Cosine up to which nothing is added; null if every label has examples.")
    chosen_by: Literal["leave_one_out", "assumed_affinity"] = Field(
        description="How the weight was found; the latter if no label has two examples."
    )
    accuracy_by_text: float | None = Field(
        description="Accuracy on left-out examples by text alone; null if none could be left out."
    )
    accuracy: float | None = Field(description="Accuracy on left-out examples with the other examples.")


class SamplingFacts(BaseModel):
    """The sampled frames."""

    num_frames: int = Field(description="Number of frames of the video, counted and not read from a header.")
    fps: float
    duration_seconds: float
    width: int
    height: int
    frame_indices: list[list[int]] = Field(description="0-based, one list of T for each clip.")
    pts_seconds: list[list[float]] = Field(description="Presentation times of those frames.")
    num_clips: int
    num_crops: int
    num_corrupt_frames: int = Field(
        description="Number of sampled frames that the decoder concealed in part, or that depend on such frames."
    )


class LabelScores(BaseModel):
    """The best labels of one video."""

    model: ModelFacts
    notice: str | None = Field(description="Limitation of the model that users should know; null if there is none.")
    vocabulary: str | None = Field(description="`name@version`; null for labels of the request alone.")
    results: list[LabelResult] = Field(description="Best first, at most `top_k`.")
    none_of_these: NoneOfThese
    acceptance: AcceptanceFacts | None = Field(description="Null if the vocabulary has none.")
    examples: ExampleFacts | None = Field(description="Null if the vocabulary has none.")
    vocabulary_warnings: list[VocabularyWarning] = Field(
        description="Of `candidate_labels`, at most 20; `GET /v1/vocabularies/{name}` shows those of a vocabulary."
    )


class Classification(LabelScores):
    """The answer to one video."""

    sampling: SamplingFacts
    video_id: str | None = Field(None, description="Id of the stored features; null unless `store` is set.")
    timing_ms: dict[str, float] = Field(
        description="upload, queue (for decoder and engine), decode, preprocess (part of decode), text, engine, score, "
        "store (if it is set), total."
    )


class FeedbackRow(BaseModel):
    """A corrected clip that is kept."""

    id: str
    label: str = Field(description="As the vocabulary spells it, if it has the label.")
    vocabulary: str | None = Field(description="`name@version`; null if the request names none.")
    is_new_label: bool | None = Field(
        description="Whether the vocabulary lacks the label; null if the request names no vocabulary."
    )
    predicted: str | None
    request_id: str | None
    note: str | None
    num_bytes: int
    sha256: str
    created_at: str


class KeptFeedback(FeedbackRow):
    """The answer to a correction."""

    is_duplicate: bool = Field(description="The clip is kept under this label already; the row is the existing one.")


class FeedbackPage(BaseModel):
    """Amount of feedback that is kept, and a page of it, newest first."""

    num_clips: int
    num_bytes: int
    max_clips: int
    max_bytes: int
    labels: dict[str, int] = Field(description="Number of clips of each label.")
    feedback: list[FeedbackRow]
    next_page_token: str | None
