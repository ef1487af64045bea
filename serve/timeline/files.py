"""Segments of a timeline as files of other programs: CSV, SubRip and WebVTT."""

import csv
import io
from collections.abc import Callable, Sequence

from serve.lists.spreadsheets import escape_formula
from serve.timeline.answers import TimelineSegment

COLUMNS = ("label", "start_seconds", "end_seconds", "start_frame", "end_frame", "score", "peak_seconds")


def as_csv(segments: Sequence[TimelineSegment]) -> str:
    """Return a table with a header and a row for each segment; a label is never a formula of a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for segment in segments:
        label, *values = (getattr(segment, column) for column in COLUMNS)
        writer.writerow([escape_formula(label), *values])
    return text.getvalue()


def as_srt(segments: Sequence[TimelineSegment]) -> str:
    """Return SubRip subtitles, a cue for each segment."""
    return "".join(
        f"{number}\n{_clock(item.start_seconds, ',')} --> {_clock(item.end_seconds, ',')}\n{_line(item.label)}\n\n"
        for number, item in enumerate(segments, start=1)
    )


def as_vtt(segments: Sequence[TimelineSegment]) -> str:
    """Return WebVTT subtitles, a cue for each segment."""
    cues = (
        f"{_clock(item.start_seconds, '.')} --> {_clock(item.end_seconds, '.')}\n{_escaped(_line(item.label))}\n\n"
        for item in segments
    )
    return "WEBVTT\n\n" + "".join(cues)


FORMATS: dict[str, Callable[[Sequence[TimelineSegment]], str]] = {"csv": as_csv, "srt": as_srt, "vtt": as_vtt}


def _clock(seconds: float, point: str) -> str:
    """Write a time as hours, minutes, seconds and milliseconds.

    >>> _clock(3661.5, ",")
    '01:01:01,500'
    """
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _line(label: str) -> str:
    """Return a label on one line: an empty line would end the cue."""
    return " ".join(label.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
