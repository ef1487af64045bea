"""One suite over both decoders: the frames that are asked for, on made and on real clips."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from serve.arrays import Int64Array
from serve.errors import PictureTooLarge, UndecodableVideo, UnsupportedMedia, VideoError, VideoTooLong, VideoTooShort
from serve.video.decode import frames_at, load_views, open_video
from serve.video.limits import DecodeSettings
from serve.video.preprocess import crop_frame
from serve.video.sampling import clip_indices
from tests import synthetic_video as made
from tests.serve.video.conftest import view_request
from tests.serve.video.independent import ffmpeg_frames
from tests.shared_data import ODD, VIDEOS, needs_shared

DECODERS = ("pyav", "decord")
REQUEST = view_request()
# Where decord cannot return the same frames: it must refuse, never answer with others.
DECORD_REFUSES = {
    "cricket_shot.gif": "GIF",
    "wave_a.avi": "packed stream: one packet more than frames",
    "wave_b.avi": "packed stream: one packet more than frames",
    "dribbling_basketball.mp4": "the edit list hides a frame",
    "baseball_game.mp4": "the edit list hides frames",
    "av1.webm": "its ffmpeg knows no AV1",
    "tiny_2x2.mkv": "pads narrow pictures",
    "tall_16x1600.mp4": "pads narrow pictures",
    "animated.gif": "GIF",
    "transparent_uneven.gif": "GIF",
    "interlaced.mpg": "returns other frames than asked for",
    "size_changes.ts": "scales all frames to the first size",
    "edit_list.mp4": "counts the hidden frames",
    "two_video_streams.mp4": "reads the larger stream, not the first",
}
# Colours of decord's old swscale differ from today's ffmpeg by up to so many levels (mean); frames are the same.
DECORD_COLOURS = {"h264_10bit.mp4": 4.0, "h264_10bit_422.mkv": 1.0, "prores_alpha.mov": 1.0}
# ffmpeg scales later frames to the first one's size; here each frame keeps its own.
NOT_COMPARED = {"size_changes.ts"}


def _index(folder: Path) -> list[dict[str, str]]:
    table = folder / "index.csv"
    return list(csv.DictReader(table.read_text(encoding="utf-8").splitlines())) if table.is_file() else []


CLIPS = [(VIDEOS / row["file"], int(row["frames"])) for row in _index(VIDEOS)]
ODD_CLIPS = [
    (ODD / row["file"], int(row["frames_by_ffprobe_5.1"])) for row in _index(ODD) if row["expected"] == "decodes"
]


def settings(decoder: str, **changes: object) -> DecodeSettings:
    return DecodeSettings.model_validate({"decoder": decoder, "threads": 2, **changes})


def rule_indices(num_frames: int) -> Int64Array:
    return clip_indices("centres", num_frames, num_segments=8, num_clips=1)


@needs_shared
@pytest.mark.parametrize(("path", "num_frames"), CLIPS + ODD_CLIPS, ids=lambda value: getattr(value, "name", None))
def test_views_are_those_of_full_decoding_by_ffmpeg(path: Path, num_frames: int) -> None:
    found = load_views(path, REQUEST, settings=settings("pyav"))
    indices = rule_indices(num_frames)
    assert found.metadata.num_frames == num_frames
    np.testing.assert_array_equal(found.frame_indices, indices)
    assert np.all(np.diff(found.pts_seconds[0]) >= 0)
    decord = _with_decord(path)
    if path.name in NOT_COMPARED:
        return
    width, height = found.metadata.width, found.metadata.height
    shown = 0
    for index, frame in enumerate(ffmpeg_frames(path, width=width, height=height)):
        shown += 1
        if index not in indices:
            continue
        expected = crop_frame(frame, REQUEST.preprocess, num_crops=1)[0]
        for segment in np.flatnonzero(indices[0] == index):
            np.testing.assert_array_equal(found.views[0, segment], expected)
            if decord is not None:
                _assert_close(decord[0, segment], expected, allowed_mean=DECORD_COLOURS.get(path.name, 0.0))
    assert shown == num_frames


def _with_decord(path: Path) -> np.ndarray | None:
    if path.name in DECORD_REFUSES:
        with pytest.raises((UndecodableVideo, UnsupportedMedia), match="pyav decoder"):
            load_views(path, REQUEST, settings=settings("decord"))
        return None
    return load_views(path, REQUEST, settings=settings("decord")).views


def _assert_close(found: np.ndarray, expected: np.ndarray, *, allowed_mean: float) -> None:
    assert float(np.abs(found.astype(int) - expected).mean()) <= allowed_mean


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "options", [{}, {"b_frames": 0}, {"gop": 250}, {"width": 101, "height": 57, "pix_fmt": "yuv444p"}]
)
def test_pixels_prove_that_each_frame_is_the_requested_one(
    tmp_path: Path, decoder: str, options: dict[str, object]
) -> None:
    path = made.make_video(tmp_path / "clip.mp4", **options)
    wanted = np.array([29, 0, 13, 12, 11, 13])
    frames = frames_at(path, wanted, settings=settings(decoder))
    assert [made.index_of(frame) for frame in frames] == wanted.tolist()


@pytest.mark.parametrize("decoder", DECODERS)
def test_variable_rate_is_sampled_by_index_and_timed_by_timestamps(tmp_path: Path, decoder: str) -> None:
    path = made.make_variable_rate(tmp_path / "vfr.mp4")
    found = load_views(path, REQUEST, settings=settings(decoder))
    times = [i / 30 for i in range(15)] + [0.5 + i / 5 for i in range(15)]
    assert found.metadata.num_frames == 30
    np.testing.assert_allclose(found.pts_seconds[0], [times[i] for i in found.frame_indices[0]], atol=1e-3)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_is_honoured(tmp_path: Path, decoder: str, rotation: int) -> None:
    corner = np.full((128, 192, 3), 40, dtype=np.uint8)
    corner[:16, :16] = 220  # top left as stored
    path = tmp_path / "turned.mp4"
    made.make_video(path, num_frames=3, width=192, height=128, rotation=rotation, frames=iter([corner] * 3))
    frame = frames_at(path, np.array([1]), settings=settings(decoder))[0]
    expected = next(ffmpeg_frames(path, width=frame.shape[1], height=frame.shape[0]))
    assert frame.shape == ((192, 128, 3) if rotation % 180 else (128, 192, 3))
    np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_frame_fills_every_segment(tmp_path: Path, decoder: str) -> None:
    found = load_views(made.make_video(tmp_path / "one.mp4", num_frames=1), REQUEST, settings=settings(decoder))
    assert found.metadata.num_frames == 1
    assert found.frame_indices.tolist() == [[0] * 8]
    assert (found.views == found.views[:, :1]).all()


@pytest.mark.parametrize("name", ["still.jpg", "still.png"])
def test_a_picture_is_a_video_of_one_frame(tmp_path: Path, name: str) -> None:
    found = load_views(made.make_picture(tmp_path / name), REQUEST, settings=settings("pyav"))
    assert (found.metadata.num_frames, found.metadata.fps, found.metadata.duration_seconds) == (1, 0.0, 0.0)
    assert made.index_of(found.views) == 10


def test_a_picture_whose_name_looks_like_a_sequence_reads_no_neighbour(tmp_path: Path) -> None:
    for index in range(3):
        made.make_picture(tmp_path / f"frame{index}.jpg")
    path = made.make_picture(tmp_path / "frame%d.jpg")
    assert load_views(path, REQUEST, settings=settings("pyav")).metadata.num_frames == 1


def test_views_are_crop_major_then_clip(tmp_path: Path) -> None:
    path = made.make_video(tmp_path / "clip.mp4")
    request = view_request(clips=2, crops=3, segments=4)
    found = load_views(path, request, settings=settings("pyav"))
    assert found.views.shape == (6, 4, 3, 32, 32)
    read = [[made.index_of(frame) for frame in view] for view in found.views]
    assert read == [found.frame_indices[view % 2].tolist() for view in range(6)]


def test_a_file_too_large_to_keep_is_read_twice_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.make_video(tmp_path / "clip.mp4")
    kept = load_views(path, REQUEST, settings=settings("pyav"))
    monkeypatch.setattr("serve.video.packet_index.MAX_CACHED_BYTES", 100)
    reread = load_views(path, REQUEST, settings=settings("pyav"))
    np.testing.assert_array_equal(reread.views, kept.views)


def test_a_cut_file_with_its_index_shows_the_frames_that_are_there(tmp_path: Path) -> None:
    found = load_views(made.make_truncated(tmp_path / "cut.mp4", faststart=True), REQUEST, settings=settings("pyav"))
    assert 20 <= found.metadata.num_frames < 60
    assert found.frame_indices.max() < found.metadata.num_frames


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda path: made.make_truncated(path), UndecodableVideo, "moov"),
        (lambda path: made.make_audio_only(path), UnsupportedMedia, "audio only"),
        (lambda path: path.write_bytes(b""), VideoTooShort, "0 bytes"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html><html>"), UnsupportedMedia, "HTML"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(90)), UnsupportedMedia, "ZIP"),
        (lambda path: path.write_bytes(b"just some words\n" * 9), UnsupportedMedia, "text"),
        (lambda path: path.write_bytes(os.urandom(4096)), UnsupportedMedia, "not a video"),
    ],
    ids=["no-index", "audio-only", "empty", "html", "zip", "text", "noise"],
)
def test_the_message_says_what_is_wrong(tmp_path: Path, make: object, error: type[Exception], words: str) -> None:
    path = tmp_path / "clip.mp4"
    make(path)  # type: ignore[operator]
    with pytest.raises(error, match=words):
        open_video(path, settings("pyav"))


@pytest.mark.parametrize("script", ["ffconcat version 1.0\nfile good.mp4\n", "\n#EXTM3U\n#EXTINF:1,\ngood.mp4\n"])
@pytest.mark.parametrize("prefix", ["", "\ufeff", "# comment\n"])
def test_a_script_that_names_a_neighbour_reads_nothing_of_it(tmp_path: Path, script: str, prefix: str) -> None:
    made.make_video(tmp_path / "good.mp4")
    path = tmp_path / "clip.mp4"
    path.write_text(prefix + script, encoding="utf-8")
    with pytest.raises(UnsupportedMedia):
        open_video(path, settings("pyav"))


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"max_frames": 29}, VideoTooLong),
        ({"max_duration_seconds": 0.9}, VideoTooLong),
        ({"max_picture_pixels": 64 * 48 - 1}, PictureTooLarge),
        ({"max_aspect_ratio": 1.3}, PictureTooLarge),
    ],
    ids=["frames", "duration", "pixels", "aspect"],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.ts"])
def test_limits_are_checked_whatever_the_container(
    tmp_path: Path, limits: dict[str, object], error: type[Exception], name: str
) -> None:
    path = made.make_video(tmp_path / name, b_frames=0)
    load_views(path, REQUEST, settings=settings("pyav"))
    with pytest.raises(error):
        load_views(path, REQUEST, settings=settings("pyav", **limits))


def test_an_index_beyond_the_end_is_refused(good_clip: Path) -> None:
    with pytest.raises(VideoTooShort, match="frame 30 was requested"):
        frames_at(good_clip, np.array([30]), settings=settings("pyav"))


SEEDS = {"clip.mp4": "libx264", "clip.mkv": "libx264", "clip.avi": "mpeg4", "clip.ts": "libx264", "clip.webm": "libvpx"}


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)])
async def test_mutated_files_end_in_an_answer_or_a_clear_error(
    tmp_path: Path, name: str, count: int, start_pool: object
) -> None:
    data = made.make_video(tmp_path / name, codec=SEEDS[name]).read_bytes()
    random = np.random.default_rng(20261123)
    pool = await start_pool(deadline_seconds=10.0)  # type: ignore[operator]
    path = tmp_path / "mutated.mp4"
    answers = 0
    for _ in range(count):
        path.write_bytes(made.mutated(data, random))
        try:
            answers += (await pool.views(path, REQUEST)).metadata.num_frames > 0
        except (VideoError, UnsupportedMedia) as error:
            assert error.message
    assert answers > 0
    path.write_bytes(data)
    assert (await pool.views(path, REQUEST)).metadata.num_frames == 30
