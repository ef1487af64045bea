"""Windows of long videos: each frame once, in order, in bounded memory, from files that are hard to read."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from serve.arrays import UInt8Array
from serve.errors import (
    ActserveError,
    DecodeLimitExceeded,
    EngineUnavailable,
    UndecodableVideo,
    VideoTooLong,
    VideoTooShort,
)
from serve.video.decode import load_views
from serve.video.limits import DecodeSettings
from serve.video.view_request import WindowRequest
from serve.video.window_stream import open_window_stream
from serve.video.windows import Window
from serve.video.workers import DecodePool
from tests.serve.video.conftest import view_request
from tests.shared_data import ODD, needs_shared
from tests.synthetic_video import (
    PERIOD,
    index_of,
    make_animation,
    make_picture,
    make_truncated,
    make_variable_rate,
    make_video,
)  # fmt: skip
from tests.waiting import EndlessVideo, until

StartPool = Callable[..., Awaitable[DecodePool]]


def window_request(**changes: object) -> WindowRequest:
    views = view_request(segments=4)
    fields = {"window_seconds": 1.0, "stride_seconds": 0.5, "max_windows": 1000, "frames_per_part": 8, **changes}
    return WindowRequest(sampling=views.sampling, preprocess=views.preprocess, **fields)  # type: ignore[arg-type]


class Collected:
    """Everything that came of a video."""

    def __init__(self) -> None:
        self.frames: dict[int, UInt8Array] = {}
        self.windows: list[Window] = []
        self.most_held = 0
        self.starts = 0

    async def collect(self, pool: DecodePool, path: Path, request: WindowRequest) -> "Collected":
        held: set[int] = set()
        async with open_window_stream(pool, path, request) as stream:
            async for part in stream:
                if part.info is not None:
                    self.frames, self.windows, held = {}, [], set()
                    self.info, self.starts = part.info, self.starts + 1
                assert not self.frames.keys() & set(part.frame_indices)
                self.frames |= dict(zip(part.frame_indices, part.frames, strict=True))
                held |= set(part.frame_indices)
                self.most_held = max(self.most_held, len(held))
                for window in part.windows:
                    assert held >= set(window.frame_indices)
                self.windows += part.windows
                held = {index for index in held if index >= part.first_needed_frame}
            self.summary = stream.summary
        assert len(self.windows) == self.info.num_windows
        assert not held
        return self


@pytest.fixture
async def pool(start_pool: StartPool) -> AsyncIterator[DecodePool]:
    yield await start_pool()


def shown(frame: UInt8Array) -> int:
    return index_of(np.moveaxis(frame, 0, -1))


async def test_each_frame_comes_once_and_is_the_right_one(pool: DecodePool, tmp_path: Path) -> None:
    path = make_video(tmp_path / "long.mp4", num_frames=200)
    found = await Collected().collect(pool, path, window_request())
    assert found.starts == 1
    assert [shown(frame) for frame in found.frames.values()] == [index % PERIOD for index in found.frames]
    assert found.most_held <= 8 + 3 * 4  # a part, and the frames of the windows that overlap it
    assert (found.summary.width, found.summary.height, found.summary.is_truncated) == (64, 48, False)
    assert found.info.duration_seconds == pytest.approx(200 / 30)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mov"])
async def test_one_window_shows_what_a_classification_of_the_file_does(
    pool: DecodePool, tmp_path: Path, suffix: str
) -> None:
    codec = "mpeg4" if suffix == "avi" else "libx264"
    path = make_video(tmp_path / f"clip.{suffix}", num_frames=45, codec=codec)
    found = await Collected().collect(pool, path, window_request(window_seconds=60.0))
    expected = load_views(path, view_request(segments=4), settings=DecodeSettings())
    (window,) = found.windows
    np.testing.assert_array_equal(window.frame_indices, expected.frame_indices[0])
    np.testing.assert_array_equal(np.stack([found.frames[index] for index in window.frame_indices]), expected.views[0])


async def test_a_variable_rate_has_windows_by_time(pool: DecodePool, tmp_path: Path) -> None:
    path = make_variable_rate(tmp_path / "variable.mp4", num_frames=60)  # 30 frames in a second, then 5 a second
    found = await Collected().collect(pool, path, window_request(stride_seconds=1.0))
    assert [window.start_frame for window in found.windows][:3] == [0, 30, 35]


@needs_shared
async def test_an_edit_list_moves_the_first_window(pool: DecodePool) -> None:
    path = ODD / "edit_list.mp4"
    found = await Collected().collect(pool, path, window_request())
    expected = load_views(path, view_request(), settings=DecodeSettings()).metadata
    assert found.info.num_frames == expected.num_frames
    assert found.windows[-1].end_seconds == pytest.approx(expected.duration_seconds)


@pytest.mark.parametrize("make", [
    lambda folder: make_truncated(folder / "cut.mp4", faststart=True),
    lambda folder: _cut(make_video(folder / "whole.mkv", num_frames=90), folder / "cut.mkv"),
    lambda folder: _cut(make_video(folder / "whole.ts", num_frames=90), folder / "cut.ts"),
    lambda folder: _cut(make_video(folder / "whole.flv", num_frames=90), folder / "cut.flv"),
], ids=["mp4", "mkv", "ts", "flv"])  # fmt: skip
async def test_a_file_that_breaks_off_has_windows_up_to_there(
    pool: DecodePool, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    found = await Collected().collect(pool, make(tmp_path), window_request())
    assert found.summary.is_truncated
    assert found.info.num_frames > 10


def _cut(whole: Path, path: Path) -> Path:
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10 // 188 * 188 + 100])
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv", "avi", "mov", "webm"])
async def test_a_complete_file_does_not_break_off(pool: DecodePool, tmp_path: Path, suffix: str) -> None:
    codec = {"avi": "mpeg4", "webm": "libvpx"}.get(suffix, "libx264")
    path = make_video(tmp_path / f"clip.{suffix}", num_frames=60, codec=codec)
    found = await Collected().collect(pool, path, window_request())
    assert not found.summary.is_truncated


async def test_an_animation_is_streamed_too(pool: DecodePool, tmp_path: Path) -> None:
    path = make_animation(tmp_path / "moving.webp", delays_ms=[100, 300, 100, 500])
    found = await Collected().collect(pool, path, window_request(window_seconds=0.5))
    assert found.info.duration_seconds == pytest.approx(1.0)


async def test_a_picture_has_no_timeline(pool: DecodePool, tmp_path: Path) -> None:
    with pytest.raises(VideoTooShort, match="is an image"):
        await Collected().collect(pool, make_picture(tmp_path / "still.png"), window_request())


async def test_too_many_windows_are_refused(pool: DecodePool, tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", num_frames=90)
    with pytest.raises(VideoTooLong, match="more than 3 windows"):
        await Collected().collect(pool, path, window_request(max_windows=3))


async def test_a_corrupt_file_costs_its_own_request_alone(pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(10_000))
    with pytest.raises(ActserveError):
        await Collected().collect(pool, path, window_request())
    await Collected().collect(pool, make_video(tmp_path / "clip.mp4"), window_request())


async def test_a_block_that_ends_early_kills_the_child(pool: DecodePool, tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", num_frames=200)
    async with open_window_stream(pool, path, window_request(frames_per_part=4)) as stream:
        async for _ in stream:
            break
        (child,) = pool._dedicated
    assert not psutil.pid_exists(child.pid)


async def test_a_cancelled_request_kills_the_child(pool: DecodePool, tmp_path: Path) -> None:
    video = EndlessVideo(tmp_path / "endless.mp4")
    task = asyncio.create_task(Collected().collect(pool, video.path, window_request()))
    await until(lambda: video.is_being_read)
    (child,) = pool._dedicated
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not psutil.pid_exists(child.pid)
    video.end()


async def test_a_killed_child_fails_its_request(pool: DecodePool, tmp_path: Path) -> None:
    video = EndlessVideo(tmp_path / "endless.mp4")
    task = asyncio.create_task(Collected().collect(pool, video.path, window_request()))
    await until(lambda: video.is_being_read)
    (child,) = pool._dedicated
    os.kill(child.pid, signal.SIGSEGV)
    with pytest.raises(UndecodableVideo, match="SIGSEGV"):
        await task
    video.end()


async def test_a_closed_pool_ends_its_streams(pool: DecodePool, tmp_path: Path) -> None:
    video = EndlessVideo(tmp_path / "endless.mp4")
    task = asyncio.create_task(Collected().collect(pool, video.path, window_request()))
    await until(lambda: video.is_being_read)
    await pool.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        await task
    video.end()


async def test_a_part_that_takes_too_long_ends_the_request(start_pool: StartPool, tmp_path: Path) -> None:
    pool = await start_pool(deadline_seconds=1.0)
    video = EndlessVideo(tmp_path / "endless.mp4")
    with pytest.raises(DecodeLimitExceeded, match="longer than the 1 s"):
        await Collected().collect(pool, video.path, window_request())
    video.end()
