"""The answers of the server, as documented in OpenAPI. Score, logit and cosine never share a name."""

from pydantic import BaseModel, Field


class ModelFacts(BaseModel):
    """Which model answered."""

    name: str
    version: str
    engine: str = Field(description="Runtime and precision, e.g. `openvino-bf16`.")


class LabelResult(BaseModel):
    """One label."""

    label: str
    score: float | None = Field(description="After `function_to_apply`; null under `none`.")
    logit: float = Field(description="Before it, scale included: mean over views and templates.")
    cosine: float = Field(description="Between video and prompt: mean over views and templates.")
    accepted: bool = Field(
        description="The score reaches the threshold and is above `none_of_these`; each where there is one."
    )


class NoneOfThese(BaseModel):
    """Whether the answer is 'none of these'."""

    score: float | None = Field(description="Of the vocabulary's background and negative phrases; null without any.")
    rejected: bool = Field(description="No label is accepted.")


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


class Classification(BaseModel):
    """The answer to one video."""

    model: ModelFacts
    vocabulary: str | None = Field(description="`name@version`; null for labels of the request alone.")
    results: list[LabelResult] = Field(description="Best first, at most `top_k`.")
    none_of_these: NoneOfThese
    sampling: SamplingFacts
    timing_ms: dict[str, float] = Field(
        description="upload, queue (for decoder and engine), decode, preprocess (part of decode), text, engine, score, "
        "total."
    )


class Problem(BaseModel):
    """RFC 9457 problem; further members carry the facts."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
