"""Format the segments of a timeline as CSV, SubRip or WebVTT."""

import csv
import io
from collections.abc import Callable, Sequence

from serve.lists.spreadsheets import escape_formula
from serve.timeline.responses import TimelineSegment

COLUMNS = ("label", "start_seconds", "end_seconds", "start_frame", "end_frame", "score", "peak_seconds")


def format_csv(segments: Sequence[TimelineSegment]) -> str:
    """Return a CSV table with a header and one row per segment; labels are escaped so that none is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for segment in segments:
        label, *values = (getattr(segment, column) for column in COLUMNS)
        writer.writerow([escape_formula(label), *values])
    return text.getvalue()


def format_srt(segments: Sequence[TimelineSegment]) -> str:
    """Return SubRip subtitles with one cue per segment."""
    return "".join(
        f"{number}\n{_cue_times(item, ',')}\n{_to_single_line(item.label)}\n\n"
        for number, item in enumerate(segments, start=1)
    )


def format_vtt(segments: Sequence[TimelineSegment]) -> str:
    """Return WebVTT subtitles with one cue per segment."""
    cues = (f"{_cue_times(item, '.')}\n{_escape(_to_single_line(item.label))}\n\n" for item in segments)
    return "WEBVTT\n\n" + "".join(cues)


FORMATS: dict[str, Callable[[Sequence[TimelineSegment]], str]] = {
    "csv": format_csv,
    "srt": format_srt,
    "vtt": format_vtt,
}


def _cue_times(segment: TimelineSegment, separator: str) -> str:
    return f"{_format_time(segment.start_seconds, separator)} --> {_format_time(segment.end_seconds, separator)}"


def _format_time(seconds: float, separator: str) -> str:
    """Format a time as hours, minutes, seconds and milliseconds.

    >>> _format_time(3661.5, ",")
    '01:01:01,500'
    """
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{separator}{rest % 1000:03}"


def _to_single_line(label: str) -> str:
    """Return the label without line breaks, because an empty line ends a cue."""
    return " ".join(label.split())


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
