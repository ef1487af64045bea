"""A timeline in the shape of Google's Video Intelligence API, `AnnotateVideoResponse` of v1, for its former clients.

Segments become `segmentLabelAnnotations` and windows `frameLabelAnnotations`, at their centre. Fields of that API which
have no counterpart here are absent; `entityId`, an id of Google's knowledge graph, is empty.
"""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from serve.timeline.answers import TimelineAnswer

Item = TypeVar("Item")


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class GoogleSpan(_Camel):
    """A stretch of the video; offsets are seconds with the suffix `s`."""

    start_time_offset: str = Field(examples=["3s"])
    end_time_offset: str = Field(examples=["9.5s"])


class GoogleSegment(_Camel):
    """One segment of a label."""

    segment: GoogleSpan
    confidence: float


class GoogleFrame(_Camel):
    """One moment of a label."""

    time_offset: str
    confidence: float


class GoogleEntity(_Camel):
    """A label."""

    entity_id: str = Field("", description="Empty: labels are the caller's own.")
    description: str


class GoogleSegments(_Camel):
    """All segments of one label."""

    entity: GoogleEntity
    segments: list[GoogleSegment]


class GoogleFrames(_Camel):
    """All moments of one label."""

    entity: GoogleEntity
    frames: list[GoogleFrame]


class GoogleResult(_Camel):
    """The annotations of one video."""

    segment: GoogleSpan
    segment_label_annotations: list[GoogleSegments] | None = Field(description="Null under `view=windows`.")
    frame_label_annotations: list[GoogleFrames] | None = Field(description="Null under `view=segments`.")


class GoogleAnswer(_Camel):
    """`AnnotateVideoResponse`."""

    annotation_results: list[GoogleResult]


def google_answer(answer: TimelineAnswer) -> GoogleAnswer:
    """Return a timeline in Google's shape."""
    segments = None
    if answer.segments is not None:
        pairs = [
            (
                item.label,
                GoogleSegment(segment=_span(item.start_seconds, item.end_seconds), confidence=item.score),
            )
            for item in answer.segments
        ]
        segments = [
            GoogleSegments(entity=GoogleEntity(description=label), segments=found) for label, found in _grouped(pairs)
        ]
    frames = None
    if answer.windows is not None:
        moments = [
            (
                result.label,
                GoogleFrame(
                    time_offset=_offset((window.start_seconds + window.end_seconds) / 2), confidence=result.score or 0.0
                ),
            )
            for window in answer.windows
            for result in window.results
        ]
        frames = [
            GoogleFrames(entity=GoogleEntity(description=label), frames=found) for label, found in _grouped(moments)
        ]
    whole = _span(0.0, answer.video.duration_seconds)
    return GoogleAnswer(
        annotation_results=[
            GoogleResult(segment=whole, segment_label_annotations=segments, frame_label_annotations=frames)
        ]
    )


def _grouped(pairs: Iterable[tuple[str, Item]]) -> Iterable[tuple[str, list[Item]]]:
    """Group by label, in the order of first appearance."""
    groups: dict[str, list[Item]] = {}
    for label, item in pairs:
        groups.setdefault(label, []).append(item)
    return groups.items()


def _span(start: float, end: float) -> GoogleSpan:
    return GoogleSpan(start_time_offset=_offset(start), end_time_offset=_offset(end))


def _offset(seconds: float) -> str:
    """Write seconds as protobuf's JSON does a duration.

    >>> _offset(9.5), _offset(3.0)
    ('9.5s', '3s')
    """
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
