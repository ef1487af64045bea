"""The decode process of training: the right frames, and a file that kills or hangs it costs that file alone."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from serve.video.limits import DecodeSettings
from tests.serve.video.outcomes import odd_files
from tests.shared_data import ODD, needs_shared
from tests.synthetic_video import index_of, make_video
from tests.waiting import eventually
from training.data.decoding.process import BadVideoError, DecodeProcess


@pytest.fixture
def decoder() -> Iterator[DecodeProcess]:
    decoder = DecodeProcess(DecodeSettings(threads=1))
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clip") / "a clip.mp4", num_frames=25)


def test_the_chosen_frames_come_back_in_the_order_asked_for(decoder: DecodeProcess, clip: Path) -> None:
    frames, num_frames = decoder.frames(clip, lambda _: np.array([9, 3, 3, 24]))
    assert num_frames == 25
    assert [index_of(frame) for frame in frames] == [9, 3, 3, 24]


@needs_shared
def test_every_odd_file_ends_in_frames_or_a_reason_and_no_process_is_lost(decoder: DecodeProcess) -> None:
    missed = []
    for file, expected in odd_files():
        try:
            found = len(decoder.frames(ODD / file, lambda n: np.arange(4) * n // 4)[0])
        except BadVideoError as error:
            found = 0
            assert str(error)
        if expected != "either" and (found == 4) != (expected == "decodes"):
            missed.append(file)
    assert missed == []
    assert decoder.num_starts == 1


def test_a_process_that_hangs_is_killed_at_the_deadline(tmp_path: Path, clip: Path) -> None:
    decoder = DecodeProcess(DecodeSettings(threads=1, deadline_seconds=3.0))
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)  # writes nothing, so the reader waits
    decoder.frames(clip, lambda _: np.array([0]))
    with pytest.raises(BadVideoError, match="longer than the 3 s allowed"):
        decoder.frames(pipe, lambda _: np.array([0]))
    os.close(writer)
    frames, _ = decoder.frames(clip, lambda _: np.array([7]))
    assert (index_of(frames[0]), decoder.num_starts) == (7, 2)
    decoder.close()


def test_a_process_that_is_killed_is_replaced(decoder: DecodeProcess, clip: Path) -> None:
    def kill(_: int) -> np.ndarray:
        os.kill(decoder.pid, signal.SIGSEGV)
        return np.array([0])

    with pytest.raises(BadVideoError, match="SIGSEGV"):
        decoder.frames(clip, kill)
    assert index_of(decoder.frames(clip, lambda _: np.array([5]))[0][0]) == 5


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # where nothing collects orphans
    except psutil.NoSuchProcess:
        return True


def test_a_process_ends_with_its_owner(clip: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # the owner: starts a process, tells its number, and is killed
        decoder = DecodeProcess(DecodeSettings(threads=1))
        decoder.frames(clip, lambda _: np.array([0]))
        os.write(writing, str(decoder.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    pid = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    assert eventually(lambda: has_ended(pid)), "the decode process outlived its owner"


def test_missing_files_are_named_as_such(decoder: DecodeProcess, tmp_path: Path) -> None:
    with pytest.raises(BadVideoError, match="No such file"):
        decoder.frames(tmp_path / "gone.mp4", lambda _: np.array([0]))
    with pytest.raises(BadVideoError, match="directory"):
        decoder.frames(tmp_path, lambda _: np.array([0]))
