"""Refusals say what the file is and why, and claim nothing that is not proven."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.errors import UndecodableVideo, UnsupportedMedia, VideoError
from serve.video.decode import load_views, open_video
from serve.video.identify import identify
from serve.video.limits import DecodeSettings
from tests import synthetic_video as made
from tests.serve.video.conftest import view_request

SETTINGS = DecodeSettings(threads=2)


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "application/vnd.oasis.opendocument.text" if name == "mimetype" else "x")
    return buffer.getvalue()


def _picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(made.corner_picture()).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (_picture("TIFF"), "TIFF"),
        (_picture("JPEG2000"), "JPEG 2000"),
        (_picture("ICO"), "icon"),
        (_picture("PPM"), "Netpbm"),
        (b"\xff\x0a\xfa\x7f\x01" + bytes(50), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(50), "CR3"),
        (b"8BPS\0\1" + bytes(50), "Photoshop"),
        (b"%PDF-1.7\n" + bytes(50), "PDF"),
        (_zip("[Content_Types].xml", "word/document.xml"), "Office document"),
        (_zip("mimetype", "content.xml"), "OpenDocument"),
        (_zip("holiday.mp4"), "ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "Office document"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<!DOCTYPE svg>\n<svg/>", "SVG"),
        (b"<!-- saved -->\n<html><body>502</body></html>", "HTML"),
        (b"<?xml version='1.0'?><MPD/>", "XML"),
        ("Größe: \u00fc\n".encode() * 900, "text file"),
        (("just words\n" * 9).encode("utf-16"), "text file"),
        (b"BMW and other cars\n" * 9, "text file"),
        (b"SQLite format 3\0" + bytes(50), "database"),
    ],
)  # fmt: skip
def test_what_is_no_video_is_named_with_what_is_allowed(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    with pytest.raises(UnsupportedMedia, match=f"{name}.*; send a video .MP4.*picture .JPEG, PNG"):
        open_video(path, SETTINGS)


def test_markup_that_repeats_itself_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"<!---->" * 600)  # partitions of it are without number; each comment may match in one way
    with pytest.raises(UnsupportedMedia):
        identify(path)


FTYP = b"\0\0\0\x14ftypisom\0\0\0\0isom"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (FTYP + b"\0\0\x10\0mdat" + bytes(100), "is truncated inside its mdat box"),
        (FTYP + b"\0\0\0\x6cmdat" + bytes(100), "the recording was not finished, or the end of the file is missing"),
        (FTYP + b"\0\0\0\0mdat" + bytes(100), "the recording was not finished, or the end of the file is missing"),
        (FTYP + os.urandom(4) + b"\xff\xff\xff\xff" + bytes(100), "the data is corrupt after 20 of 128 bytes"),
        (b"\0\0\0\x10styp" + bytes(8) + b"\0\0\0\x10moof" + bytes(8), "initialization segment"),
    ],
    ids=["cut", "closed", "open", "broken", "segment"],
)
def test_a_missing_index_has_a_reason_that_is_proven(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    with pytest.raises(UndecodableVideo, match="moov") as caught:
        open_video(path, SETTINGS)
    assert words in caught.value.message
    assert ("truncated" in caught.value.message) == ("truncated" in words)


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        ("mkv", "Matroska"),
        ("avi", "header is corrupt"),
        ("mp4", "header is corrupt"),
        ("png", "corrupt"),
        ("gif", "corrupt"),
    ],
)
def test_a_broken_header_is_no_cut_upload(tmp_path: Path, suffix: str, words: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    if suffix in ("png", "gif"):
        Image.fromarray(made.corner_picture()).save(path)
    else:
        made.make_video(path, b_frames=0)
    data = path.read_bytes()
    at = data.index(b"moov") + 4 if suffix == "mp4" else 12
    path.write_bytes(data[:at] + b"\xff" * (len(data) - at))
    with pytest.raises((VideoError, UnsupportedMedia), match=words) as caught:
        load_views(path, view_request(), settings=SETTINGS)
    assert "truncated" not in str(caught.value)


def _jpeg(*, width: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(made.picture(10, width=width, height=48)).save(buffer, "JPEG")
    return buffer.getvalue()


MULTI_PICTURE = b"\xff\xe2\x00\x10MPF\0II*\0\x08\0\0\0\0\0"  # APP2 of CIPA DC-007


@pytest.mark.parametrize(
    ("data", "num_frames"),
    [
        (_jpeg(), 1),
        (_jpeg() * 5, 5),
        (_jpeg()[:2] + MULTI_PICTURE + _jpeg()[2:] + _jpeg(), 1),
        (_jpeg() + _jpeg(width=32), 1),
        (_jpeg() + b"\0\0\0\x18ftypmp42" + _jpeg() * 3, 1),
        (_jpeg() + b"thumbnail trailer", 1),
    ],
    ids=["one", "motion-jpeg", "multi-picture", "gain-map", "motion-photo", "trailer"],
)
def test_a_photograph_is_its_first_picture_and_a_stream_is_all_of_them(
    tmp_path: Path, data: bytes, num_frames: int
) -> None:
    path = tmp_path / "clip.jpg"
    path.write_bytes(data)
    found = load_views(path, view_request(), settings=SETTINGS).metadata
    assert found.num_frames == num_frames
    assert (found.duration_seconds > 0) == (num_frames > 1)


def test_pictures_that_follow_a_png_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "clip.png"
    path.write_bytes(_picture("PNG") * 3)
    found = load_views(path, view_request(), settings=SETTINGS)
    assert (found.metadata.num_frames, found.metadata.duration_seconds) == (1, 0.0)
    assert np.ptp(found.views[0, 0]) > 100
