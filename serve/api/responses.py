"""Response models of the API. Score, logit and cosine are always separate fields."""

from typing import Literal

from pydantic import BaseModel, Field

from serve.vocabularies.acceptance import Criterion
from serve.vocabularies.label_warnings import VocabularyWarning


class ModelInfo(BaseModel):
    """The model that computed the response."""

    name: str
    version: str
    engine: str = Field(description="Runtime and precision, e.g. `openvino-bf16`.")


class LabelResult(BaseModel):
    """The result of one label."""

    label: str
    score: float | None = Field(description="Value after `function_to_apply`; null if that is `none`.")
    logit: float = Field(
        description="Value before `function_to_apply`, with scale and example clips; mean over views and templates."
    )
    cosine: float = Field(description="Cosine similarity of video and prompt; mean over views and templates.")
    accepted: bool = Field(
        description="Whether the label reaches its threshold, if any, and exceeds the score of `none_of_these`, if any."
    )


class NoneOfThese(BaseModel):
    """The result for "none of these labels"."""

    score: float | None = Field(
        description="Score of the vocabulary's background and negative phrases; null if it has none."
    )
    rejected: bool = Field(description="True if no label is accepted.")


class AcceptanceInfo(BaseModel):
    """How the vocabulary decides which labels are accepted."""

    applied: bool = Field(
        description="Whether the rule was applied to this response; if not, `obstacle` states the reason."
    )
    obstacle: str | None
    criterion: Criterion = Field(description="The value that is compared with thresholds.")
    threshold: float | None = Field(description="Threshold of labels without a per-label threshold.")
    temperature: float = Field(description="score = function((logit - bias) / temperature).")
    bias: float
    false_accept_rate: float | None = Field(
        description="Requested fraction of clips that show none of the labels and are accepted nevertheless."
    )
    false_accept_interval: tuple[float, float] | None = Field(description="95 % interval of the true fraction.")
    caveats: list[str] = Field(
        description="Changes since the calibration because of which the false-accept rate may differ."
    )


class ExampleInfo(BaseModel):
    """How example clips contribute to the logits."""

    num_examples: int
    weight: float = Field(
        description="Value added to the logit of a label for a video equal to the mean of its examples."
    )
    sharpness: float = Field(description="The added value is proportional to exp(-sharpness * (1 - cosine)).")
    floor: float | None = Field(description="Cosine below which nothing is added; null if every label has examples.")
    chosen_by: Literal["leave_one_out", "assumed_affinity"] = Field(
        description="How `weight` was chosen; `assumed_affinity` if no label has two examples."
    )
    accuracy_by_text: float | None = Field(
        description="Leave-one-out accuracy of the text alone; null if no label has two examples."
    )
    accuracy: float | None = Field(description="Leave-one-out accuracy with the examples.")


class SamplingInfo(BaseModel):
    """The sampled frames."""

    num_frames: int = Field(description="Number of frames of the video, counted rather than read from a header.")
    fps: float
    duration_seconds: float
    width: int
    height: int
    frame_indices: list[list[int]] = Field(description="Frame indices (from 0), one list of T per clip.")
    pts_seconds: list[list[float]] = Field(
        description="Presentation times of the sampled frames, one list of T per clip."
    )
    num_clips: int
    num_crops: int
    num_corrupt_frames: int = Field(
        description="Number of sampled frames with decoding errors, or that depend on frames with decoding errors."
    )


class LabelScores(BaseModel):
    """The best labels of one video."""

    model: ModelInfo
    notice: str | None = Field(description="Limitation of the model that users should know; null if there is none.")
    vocabulary: str | None = Field(description="`name@version`; null if the request gave `candidate_labels`.")
    results: list[LabelResult] = Field(description="The best labels, best first; at most `top_k`.")
    none_of_these: NoneOfThese
    acceptance: AcceptanceInfo | None = Field(description="Null if the vocabulary has no acceptance rule.")
    examples: ExampleInfo | None = Field(description="Null if the vocabulary has no example clips.")
    vocabulary_warnings: list[VocabularyWarning] = Field(
        description="At most 20 warnings about `candidate_labels`; see `GET /v1/vocabularies/{name}` for a vocabulary."
    )


class Classification(LabelScores):
    """Response to a classification."""

    sampling: SamplingInfo
    video_id: str | None = Field(None, description="Id of the stored features; null unless `store` is set.")
    timing_ms: dict[str, float] = Field(
        description="Duration of the stages in milliseconds: upload, queue (waiting for decoder and engine), decode, "
        "preprocess (part of decode), text, engine, score, "
        "store (if it is set), total."
    )


class FeedbackRow(BaseModel):
    """A stored clip with its correct label."""

    id: str
    label: str = Field(description="The label, spelled as in the vocabulary if it has the label.")
    vocabulary: str | None = Field(description="`name@version`; null if the request names no vocabulary.")
    is_new_label: bool | None = Field(
        description="Whether the vocabulary lacks the label; null if the request names no vocabulary."
    )
    predicted: str | None
    request_id: str | None
    note: str | None
    num_bytes: int
    sha256: str
    created_at: str


class StoredFeedback(FeedbackRow):
    """Response to a correction."""

    is_duplicate: bool = Field(
        description="Whether the clip was already stored with this label; if so, the existing row is returned."
    )


class FeedbackPage(BaseModel):
    """Size of the stored feedback and one page of its rows, newest first."""

    num_clips: int
    num_bytes: int
    max_clips: int
    max_bytes: int
    labels: dict[str, int] = Field(description="Number of clips of each label.")
    feedback: list[FeedbackRow]
    next_page_token: str | None
