"""Options of a timeline, and the values that follow from a model where the request leaves them open."""

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
SECONDS_PER_FRAME = 0.25  # of a clip: the default window of a model of 8 frames lasts 2 s
STRIDES_PER_WINDOW = 4
MAX_OVERLAP = 32  # windows that show the same moment
SEGMENT_OPTIONS = ("threshold_on", "threshold_off", "min_segment_seconds", "gap_seconds")


class SegmentOptions(LabelOptions):
    """Options of scoring windows and joining them to segments."""

    function_to_apply: Activation | None = Field(
        None, description="Function from logits to scores; by default that of the model."
    )
    view: View = Field("segments", description="What the answer holds.")
    format: Format = Field("actserve", description="Shape of the answer.")
    top_k: int | None = Field(
        None, ge=1, le=1000, description="Labels of a window, best first; 5 by default. Needs a view of windows."
    )
    threshold_on: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Score at which a segment opens; by default the threshold of the vocabulary, or that of the page "
        "on timelines.",
    )
    threshold_off: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Score below which a segment closes, at most `threshold_on`, which it needs; by default half.",
    )
    min_segment_seconds: float | None = Field(
        None, ge=0, le=3600, description="Shortest segment; by default a window, or the video if that is shorter."
    )
    gap_seconds: float | None = Field(
        None, ge=0, le=3600, description="Longest gap that a segment bridges; by default half a window."
    )

    @model_validator(mode="after")
    def _check_segments(self) -> Self:
        if self.threshold_off is not None and self.threshold_on is None:
            raise ValueError("`threshold_off` needs `threshold_on`")
        if self.threshold_off is not None and self.threshold_on is not None and self.threshold_off > self.threshold_on:
            raise ValueError("`threshold_off` may be at most `threshold_on`")
        if self.view == "segments" and self.top_k is not None:
            raise ValueError("`top_k` is of windows, and `view` is `segments`")
        given = [name for name in SEGMENT_OPTIONS if getattr(self, name) is not None]
        if self.view == "windows" and given:
            raise ValueError(f"`{given[0]}` is of segments, and `view` is `windows`")
        return self

    @property
    def has_windows(self) -> bool:
        """Whether the answer holds windows."""
        return self.view != "segments"

    @property
    def has_segments(self) -> bool:
        """Whether the answer holds segments."""
        return self.view != "windows"

    def of_window(self) -> ClassifyOptions:
        """Return the options of the classification that one window is."""
        shared = {name: getattr(self, name) for name in LabelOptions.model_fields}
        return ClassifyOptions(
            **shared,
            top_k=self.top_k or DEFAULT_TOP_K,
            function_to_apply=self.function_to_apply,
            threshold=self.threshold_on,
        )

    def spaced(self, *, window_seconds: float, stride_seconds: float) -> "Spacing":
        """Return the lengths of this request for windows of a length and distance."""
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
        None, ge=0.1, le=120, description="Length of a window; by default 0.25 s for each frame of the model's clips."
    )
    stride_seconds: float | None = Field(
        None,
        ge=0.02,
        le=120,
        description="From one window to the next, at most a window; by default a quarter of a window.",
    )
    relevance: bool = Field(
        False, description="Also return how relevant each sampled frame is to one label. Needs a frame-wise model."
    )
    relevance_label: str | None = Field(
        None, description="The label of `relevance`, which it needs; may be left out if there is only one."
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
                raise ValueError(f"`{name}` has no place in the shape that `format` asks for")
        return self

    def relevant_label(self, labels: Sequence[str]) -> int | None:
        """Return the index of the label whose relevance is wanted; None if none is.

        Raises:
            InvalidOption: it is not one of the labels, or it is not said which.
        """
        if not self.relevance:
            return None
        if self.relevance_label is None and len(labels) > 1:
            raise InvalidOption(f"`relevance` needs `relevance_label`, one of the {len(labels)} labels")
        wanted = labels[0] if self.relevance_label is None else trim(self.relevance_label)
        if wanted not in labels:
            raise InvalidOption(f"`relevance_label` is {wanted[:80]!r}, which is not one of the {len(labels)} labels")
        return labels.index(wanted)

    def spacing(self, sampling: SamplingContract) -> "Spacing":
        """Return the lengths of this request for a model.

        Raises:
            InvalidOption: the window and the stride do not go together.
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
        return self.spaced(window_seconds=window, stride_seconds=stride)


@dataclass(frozen=True, kw_only=True)
class Spacing:
    """The lengths of one timeline, in seconds."""

    window_seconds: float
    stride_seconds: float
    min_segment_seconds: float
    gap_seconds: float


def _check_spacing(window: float, stride: float) -> None:
    if stride > window:
        raise ValueError(
            f"stride_seconds is {stride:g} and window_seconds {window:g}: a longer stride would leave parts out"
        )
    if stride * MAX_OVERLAP < window:
        raise ValueError(
            f"stride_seconds is {stride:g} and window_seconds {window:g}: "
            f"a stride of at least {window / MAX_OVERLAP:g} is needed, a {MAX_OVERLAP}th of the window"
        )
