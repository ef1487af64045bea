"""Segments as CSV, SubRip and WebVTT, as their readers expect them."""

import csv
import io

from serve.timeline.files import format_csv, format_srt, format_vtt
from serve.timeline.responses import TimelineSegment


def segment(label: str, start: float, end: float) -> TimelineSegment:
    return TimelineSegment(
        label=label, start_seconds=start, end_seconds=end, start_frame=0, end_frame=1, score=0.5, peak_seconds=start
    )


SEGMENTS = [segment("opening a <door> & leaving", 0.0, 1.5), segment('two\n\nlines, "quoted"', 3599.9996, 3723.25)]


def test_a_table_is_read_back() -> None:
    rows = list(csv.DictReader(io.StringIO(format_csv(SEGMENTS))))
    assert [row["label"] for row in rows] == [item.label for item in SEGMENTS]
    assert rows[1]["end_seconds"] == "3723.25"


def test_subrip_numbers_cues_and_keeps_labels_on_one_line() -> None:
    assert format_srt(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:01,500\nopening a <door> & leaving\n\n"
        '2\n01:00:00,000 --> 01:02:03,250\ntwo lines, "quoted"\n\n'
    )


def test_webvtt_escapes_its_markup() -> None:
    assert format_vtt(SEGMENTS).startswith(
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nopening a &lt;door&gt; &amp; leaving\n\n"
    )


def test_files_without_segments() -> None:
    assert format_srt([]) == ""
    assert format_vtt([]) == "WEBVTT\n\n"
    assert format_csv([]).count("\n") == 1
