"""Files whose container says too little or something wrong: every sampled frame is that of full decoding by ffmpeg."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from serve.video.decode import frames_at, load_views, open_video
from serve.video.limits import DecodeSettings
from serve.video.sampling import clip_indices
from tests.serve.video.conftest import view_request
from tests.serve.video.independent import ffmpeg_frames
from tests.shared_data import FIELD, needs_shared
from tests.synthetic_video import make_video, picture

SETTINGS = DecodeSettings(threads=2)


@needs_shared
@pytest.mark.parametrize(
    ("name", "num_frames"),
    [("joined_two_descriptions.mp4", 325), ("h263_no_stss.3gp", 60), ("dropped_frames.avi", 60)],
)
@pytest.mark.parametrize("segments", [1, 3, 8])
def test_sampled_frames_are_those_of_full_decoding(name: str, num_frames: int, segments: int) -> None:
    path = FIELD / name
    video = open_video(path, SETTINGS)
    assert video.is_planned
    indices = clip_indices("centres", num_frames, num_segments=segments)[0]
    found = frames_at(path, indices, settings=SETTINGS)
    wanted = dict(zip(indices.tolist(), found, strict=True))
    height, width = found.shape[1:3]
    shown = 0
    for index, frame in enumerate(ffmpeg_frames(path, width=width, height=height)):
        shown += 1
        if index in wanted:
            np.testing.assert_array_equal(wanted[index], frame)
    assert shown == num_frames


@needs_shared
def test_empty_chunks_of_an_avi_take_time() -> None:
    found = load_views(FIELD / "dropped_frames.avi", view_request(), settings=SETTINGS)
    assert found.metadata.duration_seconds == pytest.approx(4.0)
    assert found.metadata.num_frames == 60
    timeline = open_video(FIELD / "dropped_frames.avi", SETTINGS).read_timeline()
    assert timeline.pts_seconds[-1] == pytest.approx(3.96)
    # 60 pictures in 100 ticks of 1/25 s: every time is a whole tick, and none is used twice
    ticks = timeline.pts_seconds * 25
    np.testing.assert_allclose(ticks, np.round(ticks), atol=1e-9)
    assert np.all(np.diff(ticks) >= 1 - 1e-9)


@pytest.mark.parametrize("pattern", ["1101001111", "111111000000", "1000000000", "1010101010"])
def test_empty_chunks_at_the_end_of_an_avi_take_time(tmp_path: Path, pattern: str) -> None:
    path = make_avi(tmp_path / "a.avi", pattern)
    timeline = open_video(path, SETTINGS).read_timeline()
    times = [place / 25 for place, chunk in enumerate(pattern) if chunk == "1"]
    np.testing.assert_allclose(timeline.pts_seconds, times, atol=1e-9)  # chunk numbers, divided by the same rate
    assert timeline.duration_seconds == pytest.approx(len(pattern) / 25, abs=1e-9)


@pytest.mark.parametrize("num_empty", [1, 3])
def test_empty_samples_at_the_end_of_an_mp4_take_time(tmp_path: Path, num_empty: int) -> None:
    path = make_video(tmp_path / "a.mp4", num_frames=10, fps=25, b_frames=0)
    data = bytearray(path.read_bytes())
    sizes = data.index(b"stsz") + 4 + 12  # after version, the size of all samples (0) and their number
    data[sizes + 4 * (10 - num_empty) : sizes + 40] = bytes(4 * num_empty)
    path.write_bytes(data)
    timeline = open_video(path, SETTINGS).read_timeline()
    assert timeline.num_frames == 10 - num_empty
    assert timeline.duration_seconds == pytest.approx(10 / 25, abs=1e-4)  # the clock of the track


def test_h264_in_a_program_stream_is_planned_where_two_pictures_share_a_time(tmp_path: Path) -> None:
    path = make_vob(tmp_path / "a.vob", num_frames=500)
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert len(set(times)) < len(times) < 100  # a time for each pack, and one of them twice
    video = open_video(path, SETTINGS)
    assert video.is_planned
    found = frames_at(path, np.arange(500), settings=SETTINGS)
    for frame, expected in zip(found, ffmpeg_frames(path, width=160, height=128), strict=True):
        np.testing.assert_array_equal(frame, expected)


def make_vob(path: Path, *, num_frames: int) -> Path:
    """Write H.264 with B-frames in MPEG-PS; each pack holds dozens of small pictures."""
    stream_file = path.with_suffix(".mp4")
    with av.open(str(stream_file), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2", "g": "50"})
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for index in range(num_frames):
            shade = np.full((128, 160, 3), index % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(stream_file)) as reading, av.open(str(path), "w", format="vob") as writing:
        source = reading.streams.video[0]
        target = writing.add_stream_from_template(source)
        annex_b = av.BitStreamFilterContext("h264_mp4toannexb", source, target)
        for packet in reading.demux(source):
            for filtered in annex_b.filter(packet if packet.size else None):
                filtered.stream = target
                writing.mux(filtered)
    return path


def make_avi(path: Path, pattern: str) -> Path:
    """Write an AVI of intra frames at 25 fps with a chunk for each digit: 1 holds a picture, 0 is empty."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        for index in range(pattern.count("1")):
            frame = av.VideoFrame.from_ndarray(picture(index, width=32, height=32), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuvj420p")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        pictures = iter([bytes(packet) for packet in container.demux(video=0) if packet.size])
    data = path.read_bytes()
    head, chunks, index = data[: data.index(b"movi") - 8], b"movi", b""
    for chunk in pattern:
        content = next(pictures) if chunk == "1" else b""
        index += struct.pack("<4sIII", b"00dc", 16, len(chunks), len(content))
        chunks += struct.pack("<4sI", b"00dc", len(content)) + content + bytes(len(content) % 2)
    lists = ((b"LIST", chunks), (b"idx1", index))
    body = head[8:] + b"".join(struct.pack("<4sI", kind, len(content)) + content for kind, content in lists)
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)
    return path
