"""Files with several video tracks: the one that players show is scored."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve.errors import ActserveError, UndecodableVideo, UnsupportedMedia, VideoTooShort
from serve.video.boxes import read_handler_types
from serve.video.decode import frames_at, load_views, open_video
from serve.video.ebml import read_enabled_flags
from serve.video.identify import identify
from serve.video.limits import DecodeSettings
from tests import synthetic_video as made
from tests.serve.video.conftest import view_request
from tests.serve.video.independent import ffmpeg_frames
from tests.shared_data import FIELD, needs_shared

SETTINGS = DecodeSettings(threads=2)
DEFAULT, NONE = Disposition.default, Disposition(0)
FLAG_LACING, FLAG_ENABLED = b"\x9c\x81\x00", b"\xb9\x81\x00"  # Matroska: both elements with the value 0


def make_tracks(
    path: Path,
    dispositions: Sequence[Disposition],
    *,
    num_frames: int = 5,
    empty_track: int | None = None,
    is_fragmented: bool = False,
) -> Path:
    """Track k is painted with `level(10 * k)`; `empty_track` has no packets."""
    options = {"default_mode": "passthrough"} if path.suffix in (".mkv", ".webm") else {}
    if is_fragmented:
        options["movflags"] = "frag_keyframe+empty_moov"
    with av.open(str(path), "w", options=options) as container:
        streams = []
        for disposition in dispositions:
            stream = container.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.disposition = 64, 48, "yuv420p", disposition
            streams.append(stream)
        for index in range(num_frames):
            for track, stream in enumerate(streams):
                if track == empty_track:
                    continue
                frame = av.VideoFrame.from_ndarray(made.picture(10 * track, width=64, height=48), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def replace_bytes(path: Path, old: bytes, new: bytes, *, occurrence: int = 0) -> None:
    """Replace one occurrence in a file."""
    parts = path.read_bytes().split(old)
    assert len(parts) > occurrence + 1
    head, tail = old.join(parts[: occurrence + 1]), old.join(parts[occurrence + 1 :])
    path.write_bytes(head + new + tail)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi", ".mp4", "fragmented.mp4"])
def test_a_track_without_packets_is_passed_over(tmp_path: Path, suffix: str) -> None:
    path = make_tracks(
        tmp_path / f"a{suffix}", [DEFAULT, DEFAULT], empty_track=0, is_fragmented=suffix.startswith("fragmented")
    )
    assert scored_track(path) == 1


def test_a_video_whose_tracks_have_no_packets_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as container:
        for _ in range(2):
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()  # writes the header
    with pytest.raises(VideoTooShort, match="no frames"):
        open_video(path, SETTINGS)


def scored_track(path: Path) -> int:
    """Number of the track that was read."""
    return made.index_of(frames_at(path, np.array([2]), settings=SETTINGS)[0]) // 10


@needs_shared
def test_a_disabled_first_track_is_passed_over() -> None:
    path = FIELD / "aux_first_disabled.mp4"
    shown = list(ffmpeg_frames(path, width=320, height=240, stream=1))
    found = frames_at(path, np.arange(50), settings=SETTINGS)
    np.testing.assert_array_equal(found, shown)
    with pytest.raises(UndecodableVideo, match=r"2 video tracks.*pyav decoder"):
        load_views(path, view_request(), settings=DecodeSettings(decoder="decord"))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
@pytest.mark.parametrize(
    ("dispositions", "shown"),
    [
        ((NONE, DEFAULT), 1),
        ((DEFAULT, NONE), 0),
        ((DEFAULT, DEFAULT), 0),
        ((NONE, NONE), 0),
        ((NONE, NONE, DEFAULT), 2),
    ],
    ids=["second", "first", "both", "none", "third"],
)
def test_an_enabled_or_default_track_goes_before_others(
    tmp_path: Path, suffix: str, dispositions: Sequence[Disposition], shown: int
) -> None:
    assert scored_track(make_tracks(tmp_path / f"clip.{suffix}", dispositions)) == shown


def test_a_fragmented_file_with_a_disabled_first_track(tmp_path: Path) -> None:
    source = make_tracks(tmp_path / "clip.mp4", (NONE, DEFAULT))
    path = tmp_path / "fragmented.mp4"
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(source)) as whole, av.open(str(path), "w", options=options) as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in whole.streams.video}
        for stream in whole.streams.video:
            streams[stream.index].disposition = stream.disposition
        for packet in whole.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    assert scored_track(path) == 1


@pytest.mark.parametrize("suffix", ["ts", "avi"])
def test_without_flags_the_first_track_is_shown(tmp_path: Path, suffix: str) -> None:
    assert scored_track(make_tracks(tmp_path / f"clip.{suffix}", (NONE, DEFAULT))) == 0


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_disabled_matroska_track_is_passed_over(tmp_path: Path, suffix: str) -> None:
    path = make_tracks(tmp_path / f"clip.{suffix}", (DEFAULT, DEFAULT))
    assert read_enabled_flags(path) == [True, True]
    replace_bytes(path, FLAG_LACING, FLAG_ENABLED)
    assert read_enabled_flags(path) == [False, True]
    assert scored_track(path) == 1


def test_a_matroska_track_for_another_audience_is_passed_over(tmp_path: Path) -> None:
    path = make_tracks(tmp_path / "clip.mkv", (DEFAULT | Disposition.hearing_impaired, DEFAULT))
    assert scored_track(path) == 1


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_an_auxiliary_track_is_passed_over(tmp_path: Path, suffix: str) -> None:
    path = make_tracks(tmp_path / f"clip.{suffix}", (DEFAULT, DEFAULT))
    handler = b"hdlr" + bytes(4) + (b"mhlr" if suffix == "mov" else bytes(4))
    replace_bytes(path, handler + b"vide", handler + b"auxv")
    assert list(read_handler_types(path).values()) == [b"auxv", b"vide"]
    assert scored_track(path) == 1


def test_a_cover_is_no_video_and_does_not_hinder_one(tmp_path: Path) -> None:
    path = tmp_path / "covered.mp4"
    with av.open(str(made.make_video(tmp_path / "clip.mp4"))) as clip, av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 32, 32, "yuvj420p", Disposition.attached_pic
        video = container.add_stream_from_template(clip.streams.video[0])
        frame = av.VideoFrame.from_ndarray(made.picture(30, width=32, height=32), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        pictures = [*cover.encode(frame), *cover.encode(None)]
        container.mux(pictures)
        for packet in clip.demux(clip.streams.video[0]):
            if packet.size:
                packet.stream = video
                container.mux(packet)
    found = load_views(path, view_request(), settings=SETTINGS)
    assert (found.metadata.num_frames, found.metadata.width) == (30, 64)


@needs_shared
def test_audio_with_a_cover_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="audio and a cover picture"):
        open_video(FIELD.parent / "odd" / "audio_with_cover.mp4", SETTINGS)


@settings(max_examples=150, deadline=None)
@given(
    head=st.sampled_from(
        [b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff", b"\0\0\0\x08ftyp\0\0\0\0moov", b"\xff\xd8\xff", b""]
    ),
    tail=st.binary(max_size=400),
)
@example(head=b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff", tail=b"\x80\x02\x10" + bytes(5))  # 2**44 bytes claimed
def test_no_bytes_break_the_readers_of_headers(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, tail: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(head + tail)
    assert isinstance(read_handler_types(path), dict)
    assert isinstance(read_enabled_flags(path), list)
    try:
        identify(path)
    except ActserveError as error:
        assert error.message
