"""Children that are killed, hang, eat memory or grow old: one request fails at most, and nothing is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from serve.errors import DecodeLimitExceeded, EngineUnavailable, Overloaded, UndecodableVideo, VideoTooShort
from serve.video.decode import load_views
from serve.video.limits import DecodeSettings
from serve.video.workers import DecodePool
from tests.serve.video.conftest import view_request
from tests.synthetic_video import make_video
from tests.waiting import PATIENCE_SECONDS, EndlessVideo, until

StartPool = Callable[..., Awaitable[DecodePool]]
REQUEST = view_request()
ROOT = Path(__file__).resolve().parents[3]
LONGEST_FIRST_LIFE = 2.0  # processor seconds after which a limit of one, rounded up, would have ended a first job


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[EndlessVideo]:
    """A file on which a child works until it is killed."""
    video = EndlessVideo(tmp_path / "endless.mp4")
    yield video
    video.end()


@pytest.fixture
async def busy(start_pool: StartPool, endless: EndlessVideo) -> AsyncIterator[tuple[DecodePool, asyncio.Task[object]]]:
    """A pool whose one child is at work."""
    pool = await start_pool(threads=1)
    task: asyncio.Task[object] = asyncio.create_task(pool.views(endless.path, REQUEST))
    await until(lambda: endless.is_being_read)
    yield pool, task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def long_dependent_video(path: Path, *, num_frames: int) -> Path:
    """A key frame of 16 million pixels and one small packet, repeated, that copies the frame before it.

    No index helps: every frame has to be decoded to reach the last. The file stays below a few MB.
    """
    blank = np.zeros((4096, 4096, 3), dtype=np.uint8)
    source = make_video(
        path.with_name("two.avi"), num_frames=2, width=4096, height=4096, frames=iter([blank] * 2), codec="mpeg4"
    )
    with av.open(str(source)) as reading, av.open(str(path), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        packets = [packet for packet in reading.demux(video=0) if packet.size]
        contents = [bytes(packet) for packet in packets]
        assert [packet.is_keyframe for packet in packets] == [True, False]
        for i in range(num_frames):
            packet = av.Packet(contents[min(i, 1)])
            packet.stream, packet.pts, packet.dts = stream, i, i
            packet.time_base, packet.is_keyframe = packets[0].time_base, i == 0
            writing.mux(packet)
    return path


async def test_the_pool_returns_what_decoding_here_returns(start_pool: StartPool, good_clip: Path) -> None:
    pool = await start_pool()
    found, here = await pool.views(good_clip, REQUEST), load_views(good_clip, REQUEST, settings=DecodeSettings())
    np.testing.assert_array_equal(found.views, here.views)
    np.testing.assert_array_equal(found.pts_seconds, here.pts_seconds)
    assert found.metadata == here.metadata
    assert found.decode_ms > 0


async def new_child_reads(pool: DecodePool, endless: EndlessVideo, old_pid: int) -> None:
    """Wait until another child has read from the file; a child that is being killed could still read a byte."""
    await until(lambda: bool(pool.pids) and pool.pids != [old_pid])
    endless.feed()
    await until(lambda: endless.is_being_read)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
async def test_the_video_of_a_killed_child_is_decoded_again(
    busy: tuple[DecodePool, asyncio.Task[object]], endless: EndlessVideo, good_clip: Path, kill: signal.Signals
) -> None:
    pool, task = busy
    (pid,) = pool.pids
    os.kill(pid, kill)
    await new_child_reads(pool, endless, pid)
    endless.end()
    with pytest.raises(VideoTooShort):  # what the new child says about the end of the pipe
        await task
    assert (await pool.views(good_clip, REQUEST)).metadata.num_frames == 30
    assert pool.restarts == 1
    assert pool.pids != [pid]


@pytest.mark.parametrize(
    ("kill", "error"),
    [(signal.SIGKILL, EngineUnavailable), (signal.SIGTERM, EngineUnavailable), (signal.SIGSEGV, UndecodableVideo)],
)
async def test_the_second_death_ends_the_request(
    busy: tuple[DecodePool, asyncio.Task[object]],
    endless: EndlessVideo,
    good_clip: Path,
    kill: signal.Signals,
    error: type[Exception],
) -> None:
    """A file that crashes two children is the cause; a signal from outside says nothing about the file."""
    pool, task = busy
    (pid,) = pool.pids
    os.kill(pid, kill)
    await new_child_reads(pool, endless, pid)
    os.kill(pool.pids[0], kill)
    with pytest.raises(error, match=kill.name):
        await task
    assert (await pool.views(good_clip, REQUEST)).metadata.num_frames == 30


async def test_a_stopped_child_is_replaced_within_the_deadline(
    busy: tuple[DecodePool, asyncio.Task[object]], endless: EndlessVideo
) -> None:
    """The deadline is 30 seconds; the second child answers, so the first was not waited for."""
    pool, task = busy
    (pid,) = pool.pids
    os.kill(pid, signal.SIGSTOP)
    await new_child_reads(pool, endless, pid)
    endless.end()
    with pytest.raises(VideoTooShort):
        await task
    assert pool.restarts == 1


async def test_a_child_killed_while_idle_costs_nothing(start_pool: StartPool, good_clip: Path) -> None:
    pool = await start_pool()
    os.kill(pool.pids[0], signal.SIGKILL)
    assert (await pool.views(good_clip, REQUEST)).metadata.num_frames == 30
    os.kill(pool.pids[0], signal.SIGKILL)
    await until(lambda: psutil.Process(pool.pids[0]).status() == psutil.STATUS_ZOMBIE)
    assert (await pool.views(good_clip, REQUEST)).metadata.num_frames == 30


async def test_the_deadline_kills_and_the_next_clip_is_answered(
    start_pool: StartPool, endless: EndlessVideo, good_clip: Path
) -> None:
    pool = await start_pool(deadline_seconds=2.0, threads=1)
    with pytest.raises(DecodeLimitExceeded, match=r"longer than the 2 s"):
        await pool.views(endless.path, REQUEST)
    assert (await pool.views(good_clip, REQUEST)).metadata.num_frames == 30


async def test_processor_time_is_limited(start_pool: StartPool, tmp_path: Path) -> None:
    """The limit counts from the whole second after what was used, so a child is killed after two seconds at most.

    The work grows until it takes longer than that on the machine at hand, however fast it is.
    """
    pool = await start_pool(max_cpu_seconds=1, threads=1, deadline_seconds=PATIENCE_SECONDS)
    killed = None
    for num_frames in (512, 2048, 8192, 32768):
        clip = long_dependent_video(tmp_path / "long.avi", num_frames=num_frames)
        try:
            found = await pool.views(clip, REQUEST)
        except DecodeLimitExceeded as error:
            killed = error
            break
        assert found.metadata.num_frames == num_frames
    assert "processor time" in str(killed)


async def test_memory_is_limited_and_the_child_is_replaced(
    start_pool: StartPool, tmp_path: Path, good_clip: Path
) -> None:
    pool = await start_pool(max_memory_bytes=128 * 2**20)
    before = pool.pids
    blank = np.zeros((4096, 4096, 3), dtype=np.uint8)
    bomb = make_video(tmp_path / "bomb.mp4", num_frames=8, width=4096, height=4096, frames=iter([blank] * 8))
    assert bomb.stat().st_size < 100_000
    for _ in range(3):
        with pytest.raises(DecodeLimitExceeded) as caught:
            await pool.views(bomb, REQUEST)
        assert caught.value.details == {"limit_bytes": 128 * 2**20}
        # the next file does not pay for what the bomb left allocated
        assert (await pool.views(good_clip, REQUEST)).metadata.num_frames == 30
    assert len(pool.pids) == len(before) and not set(pool.pids) & set(before)
    assert pool.restarts == 3


async def test_a_full_queue_refuses_at_once(start_pool: StartPool, good_clip: Path) -> None:
    pool = await start_pool(queue_size=2)
    tasks = [asyncio.create_task(pool.views(good_clip, REQUEST)) for _ in range(6)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [result for result in results if isinstance(result, Overloaded)]
    assert len(refused) == 3  # one in the child, two waiting
    assert all(result.metadata.num_frames == 30 for result in results if not isinstance(result, BaseException))


async def test_a_caller_who_leaves_frees_the_child(
    busy: tuple[DecodePool, asyncio.Task[object]], good_clip: Path
) -> None:
    pool, task = busy
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await pool.views(good_clip, REQUEST)).metadata.num_frames == 30
    assert pool.running == pool.waiting == 0


async def test_a_caller_who_leaves_the_queue_leaves_no_trace(
    busy: tuple[DecodePool, asyncio.Task[object]], endless: EndlessVideo, good_clip: Path
) -> None:
    pool, task = busy
    waiting = asyncio.create_task(pool.views(good_clip, REQUEST))
    await until(lambda: pool.waiting == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert pool.waiting == 0
    endless.end()
    with pytest.raises(VideoTooShort):  # the pipe has ended
        await task


async def test_three_hundred_jobs_go_through_one_child_that_does_not_grow(
    start_pool: StartPool, good_clip: Path
) -> None:
    pool = await start_pool(max_cpu_seconds=1)
    pids = pool.pids
    for _ in range(50):
        await pool.views(good_clip, REQUEST)
    child = psutil.Process(pids[0])
    resident = child.memory_info().rss
    jobs = 50
    while jobs < 300 or sum(child.cpu_times()[:2]) <= LONGEST_FIRST_LIFE:
        await pool.views(good_clip, REQUEST)
        jobs += 1
    assert pool.pids == pids  # not dead of age: the limit counts from what was used before
    assert child.memory_info().rss < resident + 16 * 2**20


async def test_a_worn_child_is_replaced(start_pool: StartPool, good_clip: Path) -> None:
    pool = await start_pool(max_jobs_per_child=2)
    seen = set()
    for _ in range(5):
        await pool.views(good_clip, REQUEST)
        seen |= set(pool.pids)
    assert pool.restarts == 2
    assert len(seen) == 3


async def test_closing_answers_those_under_way(start_pool: StartPool, endless: EndlessVideo) -> None:
    pool = await start_pool(threads=1)
    children = [psutil.Process(pid) for pid in pool.pids]
    tasks = [asyncio.create_task(pool.views(endless.path, REQUEST)) for _ in range(2)]
    await until(lambda: endless.is_being_read and pool.waiting == 1)
    await pool.close()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_SECONDS)
    assert [type(result) for result in results] == [EngineUnavailable, EngineUnavailable]
    assert not any(child.is_running() for child in children)
    with pytest.raises(EngineUnavailable):
        await pool.views(endless.path, REQUEST)


async def test_children_are_small_and_hold_no_engine_and_no_socket(start_pool: StartPool) -> None:
    pool = await start_pool()
    child = psutil.Process(pool.pids[0])
    mapped = {Path(item.path).name for item in child.memory_maps()}
    assert not any(name.startswith(("libonnxruntime", "libopenvino", "libtorch")) for name in mapped)
    assert child.memory_full_info().uss < 64 * 2**20
    assert not [item for item in child.net_connections() if item.status == psutil.CONN_LISTEN]


ORPHAN = """
import asyncio, os, sys
from pathlib import Path
from serve.video.limits import DecodeSettings
from serve.video.workers import DecodePool
from tests.serve.video.conftest import view_request

async def main():
    pool = DecodePool(DecodeSettings(workers=1, threads=1))
    await pool.start()
    task = asyncio.create_task(pool.views(Path(sys.argv[1]), view_request()))
    print(*pool.pids, flush=True)
    await task

asyncio.run(main())
"""


async def test_a_server_killed_outright_leaves_no_child(endless: EndlessVideo) -> None:
    server = subprocess.Popen([sys.executable, "-c", ORPHAN, str(endless.path)], cwd=ROOT, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert server.stdout is not None
    child = psutil.Process(int(server.stdout.readline()))
    await until(lambda: endless.is_being_read)
    server.kill()
    server.wait()
    server.stdout.close()
    await until(lambda: not child.is_running())
