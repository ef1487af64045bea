"""Options of timelines, and default values that depend on the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from serve.api.options import ClassifyOptions, LabelOptions, StoreOptions
from serve.contract import Activation, SamplingContract
from serve.errors import InvalidOption
from serve.text.normalization import trim

View = Literal["segments", "windows", "both"]
Format = Literal["actserve", "google-video-intelligence"]
DEFAULT_TOP_K = 5
SECONDS_PER_FRAME = 0.25  # default window length per frame of a clip: 2 s for a model with clips of 8 frames
STRIDES_PER_WINDOW = 4
MAX_OVERLAP = 32  # number of windows that may contain the same moment
SEGMENT_OPTIONS = ("threshold_on", "threshold_off", "min_segment_seconds", "gap_seconds")


class SegmentOptions(LabelOptions):
    """Options for scoring windows and merging them into segments."""

    function_to_apply: Activation | None = Field(
        None, description="Function that converts logits to scores; defaults to the model's."
    )
    view: View = Field("segments", description="Parts of the response: segments, windows or both.")
    format: Format = Field("actserve", description="Format of the response.")
    top_k: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Number of labels per window, best first; 5 by default. Requires a `view` with windows.",
    )
    threshold_on: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Score at which a segment opens; defaults to the threshold of the vocabulary, otherwise to the "
        "value described on the page about timelines.",
    )
    threshold_off: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Score below which a segment closes; requires `threshold_on` and defaults to half of it.",
    )
    min_segment_seconds: float | None = Field(
        None,
        ge=0,
        le=3600,
        description="Shortest segment; defaults to the length of a window, or of the video if it is shorter.",
    )
    gap_seconds: float | None = Field(
        None, ge=0, le=3600, description="Longest gap within a segment; defaults to half a window."
    )

    @model_validator(mode="after")
    def _check_segments(self) -> Self:
        if self.threshold_off is not None and self.threshold_on is None:
            raise ValueError("`threshold_off` needs `threshold_on`")
        if self.threshold_off is not None and self.threshold_on is not None and self.threshold_off > self.threshold_on:
            raise ValueError("`threshold_off` may be at most `threshold_on`")
        if self.view == "segments" and self.top_k is not None:
            raise ValueError("`top_k` applies to windows, but `view` is `segments`")
        given = [name for name in SEGMENT_OPTIONS if getattr(self, name) is not None]
        if self.view == "windows" and given:
            raise ValueError(f"`{given[0]}` applies to segments, but `view` is `windows`")
        return self

    @property
    def has_windows(self) -> bool:
        """Whether the response contains windows."""
        return self.view != "segments"

    @property
    def has_segments(self) -> bool:
        """Whether the response contains segments."""
        return self.view != "windows"

    def to_classify_options(self) -> ClassifyOptions:
        """Return the options for classifying one window."""
        shared = {name: getattr(self, name) for name in LabelOptions.model_fields}
        return ClassifyOptions(
            **shared,
            top_k=self.top_k or DEFAULT_TOP_K,
            function_to_apply=self.function_to_apply,
            threshold=self.threshold_on,
        )

    def make_spacing(self, *, window_seconds: float, stride_seconds: float) -> "Spacing":
        """Return the lengths of a timeline whose windows have the given length and stride."""
        window = window_seconds
        return Spacing(
            window_seconds=window,
            stride_seconds=stride_seconds,
            min_segment_seconds=window if self.min_segment_seconds is None else self.min_segment_seconds,
            gap_seconds=window / 2 if self.gap_seconds is None else self.gap_seconds,
        )


class TimelineOptions(SegmentOptions, StoreOptions):
    """Options of a timeline."""

    window_seconds: float | None = Field(
        None, ge=0.1, le=120, description="Length of a window; defaults to 0.25 s for each frame of the model's clips."
    )
    stride_seconds: float | None = Field(
        None,
        ge=0.02,
        le=120,
        description="Time from one window to the next, at most one window; defaults to a quarter of a window.",
    )
    relevance: bool = Field(
        False, description="Also return how relevant each sampled frame is to one label. Requires a frame-wise model."
    )
    relevance_label: str | None = Field(
        None, description="The label for `relevance`; may be omitted if there is only one label. Requires `relevance`."
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        window, stride = self.window_seconds, self.stride_seconds
        if window is not None and stride is not None:
            _check_spacing(window, stride)
        if self.relevance_label is not None and not self.relevance:
            raise ValueError("`relevance_label` needs `relevance`")
        for name in ("relevance", "store"):
            if getattr(self, name) and self.format != "actserve":
                raise ValueError(f"`{name}` is not available in the format {self.format!r}")
        return self

    def relevant_label(self, labels: Sequence[str]) -> int | None:
        """Return the index of the label whose relevance is requested; None without such a request.

        Raises:
            InvalidOption: `relevance_label` is missing or is not one of the labels.
        """
        if not self.relevance:
            return None
        if self.relevance_label is None and len(labels) > 1:
            raise InvalidOption(f"`relevance` needs `relevance_label`, one of the {len(labels)} labels")
        label = labels[0] if self.relevance_label is None else trim(self.relevance_label)
        if label not in labels:
            raise InvalidOption(f"`relevance_label` is {label[:80]!r}, which is not one of the {len(labels)} labels")
        return labels.index(label)

    def spacing(self, sampling: SamplingContract) -> "Spacing":
        """Return the lengths of this timeline for a model.

        Raises:
            InvalidOption: the stride is longer than the window, or too short for it.
        """
        window, stride = self.window_seconds, self.stride_seconds
        if window is None:
            window = sampling.num_segments * SECONDS_PER_FRAME
        if stride is None:
            stride = window / STRIDES_PER_WINDOW
        try:
            _check_spacing(window, stride)
        except ValueError as error:
            raise InvalidOption(f"{error}", window_seconds=window, stride_seconds=stride) from error
        return self.make_spacing(window_seconds=window, stride_seconds=stride)


@dataclass(frozen=True, kw_only=True)
class Spacing:
    """Lengths of windows, strides, segments and gaps of one timeline, in seconds."""

    window_seconds: float
    stride_seconds: float
    min_segment_seconds: float
    gap_seconds: float


def _check_spacing(window: float, stride: float) -> None:
    if stride > window:
        raise ValueError(
            f"stride_seconds is {stride:g} and window_seconds {window:g}: the stride must not exceed the window"
        )
    if stride * MAX_OVERLAP < window:
        raise ValueError(
            f"stride_seconds is {stride:g} and window_seconds {window:g}: "
            f"the stride must be at least 1/{MAX_OVERLAP} of the window, {window / MAX_OVERLAP:g}"
        )
