"""Convert a timeline to Google's Video Intelligence API (`AnnotateVideoResponse` of v1), for clients of that API.

Segments become `segmentLabelAnnotations`. Windows become `frameLabelAnnotations` at their centres. Fields of that API
without a counterpart in a timeline are absent; `entityId`, an id in Google's knowledge graph, is empty.
"""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from serve.timeline.responses import TimelineResponse

Item = TypeVar("Item")


class _CamelModel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class GoogleVideoSegment(_CamelModel):
    """A part of the video; offsets are seconds with the suffix `s`."""

    start_time_offset: str = Field(examples=["3s"])
    end_time_offset: str = Field(examples=["9.5s"])


class GoogleLabelSegment(_CamelModel):
    """One segment in which a label was detected."""

    segment: GoogleVideoSegment
    confidence: float


class GoogleLabelFrame(_CamelModel):
    """The centre of one window in which a label was detected."""

    time_offset: str
    confidence: float


class GoogleEntity(_CamelModel):
    """A label."""

    entity_id: str = Field("", description="Always empty: labels have no id in Google's knowledge graph.")
    description: str


class GoogleSegmentAnnotation(_CamelModel):
    """All segments in which one label was detected."""

    entity: GoogleEntity
    segments: list[GoogleLabelSegment]


class GoogleFrameAnnotation(_CamelModel):
    """The centres of all windows in which one label was detected."""

    entity: GoogleEntity
    frames: list[GoogleLabelFrame]


class GoogleAnnotationResults(_CamelModel):
    """The annotations of one video."""

    segment: GoogleVideoSegment
    segment_label_annotations: list[GoogleSegmentAnnotation] | None = Field(description="Null for `view=windows`.")
    frame_label_annotations: list[GoogleFrameAnnotation] | None = Field(description="Null for `view=segments`.")


class GoogleAnnotateVideoResponse(_CamelModel):
    """The timeline of a video as `AnnotateVideoResponse`."""

    annotation_results: list[GoogleAnnotationResults]


def to_google_response(timeline: TimelineResponse) -> GoogleAnnotateVideoResponse:
    """Convert a timeline to Google's format."""
    segments = None
    if timeline.segments is not None:
        label_segments = [
            (
                item.label,
                GoogleLabelSegment(segment=_make_segment(item.start_seconds, item.end_seconds), confidence=item.score),
            )
            for item in timeline.segments
        ]
        segments = [
            GoogleSegmentAnnotation(entity=GoogleEntity(description=label), segments=items)
            for label, items in _group_by_label(label_segments)
        ]
    frames = None
    if timeline.windows is not None:
        label_frames = [
            (
                result.label,
                GoogleLabelFrame(
                    time_offset=_format_offset((window.start_seconds + window.end_seconds) / 2),
                    confidence=result.score or 0.0,
                ),
            )
            for window in timeline.windows
            for result in window.results
        ]
        frames = [
            GoogleFrameAnnotation(entity=GoogleEntity(description=label), frames=items)
            for label, items in _group_by_label(label_frames)
        ]
    results = GoogleAnnotationResults(
        segment=_make_segment(0.0, timeline.video.duration_seconds),
        segment_label_annotations=segments,
        frame_label_annotations=frames,
    )
    return GoogleAnnotateVideoResponse(annotation_results=[results])


def _group_by_label(pairs: Iterable[tuple[str, Item]]) -> Iterable[tuple[str, list[Item]]]:
    """Group (label, item) pairs by label, in the order of first appearance."""
    groups: dict[str, list[Item]] = {}
    for label, item in pairs:
        groups.setdefault(label, []).append(item)
    return groups.items()


def _make_segment(start: float, end: float) -> GoogleVideoSegment:
    return GoogleVideoSegment(start_time_offset=_format_offset(start), end_time_offset=_format_offset(end))


def _format_offset(seconds: float) -> str:
    """Format seconds as a protobuf JSON duration.

    >>> _format_offset(9.5), _format_offset(3.0)
    ('9.5s', '3s')
    """
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
