"""The answers of the server, as documented in OpenAPI. Score, logit and cosine never share a name."""

from typing import Literal

from pydantic import BaseModel, Field

from serve.vocabularies.acceptance import Criterion
from serve.vocabularies.label_warnings import VocabularyWarning


class ModelFacts(BaseModel):
    """Which model answered."""

    name: str
    version: str
    engine: str = Field(description="Runtime and precision, e.g. `openvino-bf16`.")


class LabelResult(BaseModel):
    """One label."""

    label: str
    score: float | None = Field(description="After `function_to_apply`; null under `none`.")
    logit: float = Field(
        description="Before it, the model's scale and what examples add included: mean over views and templates."
    )
    cosine: float = Field(description="Between video and prompt: mean over views and templates.")
    accepted: bool = Field(
        description="The threshold is reached, and the score above that of `none_of_these`; each where there is one."
    )


class NoneOfThese(BaseModel):
    """Whether the answer is 'none of these'."""

    score: float | None = Field(description="Of the vocabulary's background and negative phrases; null without any.")
    rejected: bool = Field(description="No label is accepted.")


class AcceptanceFacts(BaseModel):
    """How the vocabulary decides which labels are accepted."""

    applied: bool = Field(description="Whether this answer was decided so; `obstacle` says why not.")
    obstacle: str | None
    criterion: Criterion = Field(description="What thresholds are compared with.")
    threshold: float | None = Field(description="Of labels without one of their own.")
    temperature: float = Field(description="score = function((logit - bias) / temperature).")
    bias: float
    false_accept_rate: float | None = Field(description="Fitted for this share of clips that show none of the labels.")
    false_accept_interval: tuple[float, float] | None = Field(description="95 % interval of the true share.")
    caveats: list[str] = Field(description="What changed since the fit, so that the share need not hold.")


class ExampleFacts(BaseModel):
    """How example clips count beside text."""

    num_examples: int
    weight: float = Field(description="Logits a video equal to the mean of a label's examples gains for it.")
    sharpness: float = Field(description="Gain falls as exp(-sharpness * (1 - cosine)).")
    chosen_by: Literal["leave_one_out", "assumed_affinity"] = Field(
        description="How the weight was found; the latter where no label has two examples to leave one out of."
    )
    accuracy_by_text: float | None = Field(description="Of left-out examples; null where none could be left out.")
    accuracy: float | None = Field(description="Of left-out examples, with the others' help.")


class SamplingFacts(BaseModel):
    """Which frames were looked at."""

    num_frames: int = Field(description="Frames the video shows, counted, never a header's claim.")
    fps: float
    duration_seconds: float
    width: int
    height: int
    frame_indices: list[list[int]] = Field(description="0-based, one list of T for each clip.")
    pts_seconds: list[list[float]] = Field(description="Presentation times of those frames.")
    num_clips: int
    num_crops: int
    num_corrupt_frames: int = Field(
        description="Of the frames looked at, those the decoder had to invent in part, or that stand on such; 0: none."
    )


class Classification(BaseModel):
    """The answer to one video."""

    model: ModelFacts
    notice: str | None = Field(description="What to know of the model before its answers are used; null without any.")
    vocabulary: str | None = Field(description="`name@version`; null for labels of the request alone.")
    results: list[LabelResult] = Field(description="Best first, at most `top_k`.")
    none_of_these: NoneOfThese
    acceptance: AcceptanceFacts | None = Field(description="Null where the vocabulary has none.")
    examples: ExampleFacts | None = Field(description="Null where the vocabulary has none.")
    vocabulary_warnings: list[VocabularyWarning] = Field(
        description="Of `candidate_labels`, at most 20; `GET /v1/vocabularies/{name}` shows those of a vocabulary."
    )
    sampling: SamplingFacts
    timing_ms: dict[str, float] = Field(
        description="upload, queue (for decoder and engine), decode, preprocess (part of decode), text, engine, score, "
        "total."
    )


class FeedbackRow(BaseModel):
    """A corrected clip that is kept."""

    id: str
    label: str = Field(description="As the vocabulary spells it, where it has the label.")
    vocabulary: str | None = Field(description="`name@version`; null where none was named.")
    is_new_label: bool | None = Field(description="The vocabulary has no such label; null where none was named.")
    predicted: str | None
    request_id: str | None
    note: str | None
    num_bytes: int
    sha256: str
    created_at: str


class KeptFeedback(FeedbackRow):
    """The answer to a correction."""

    is_duplicate: bool = Field(description="The same clip was kept under this label before; the row is that one.")


class FeedbackPage(BaseModel):
    """How much feedback is kept, and a page of it, newest first."""

    num_clips: int
    num_bytes: int
    max_clips: int
    max_bytes: int
    labels: dict[str, int] = Field(description="Clips of each label.")
    feedback: list[FeedbackRow]
    next_page_token: str | None
