"""Decoding for training in a process of its own: a file that crashes, hangs or floods it costs that file alone.

A worker of torch's DataLoader may have no children by `multiprocessing` (it is a daemon), so the process is an ordinary
one and speaks through a pipe. It is started when first needed, ends with its owner, and is replaced when it was lost.
"""

import errno
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.errors import ActserveError, DecodeLimitExceeded
from serve.video.child import death
from serve.video.limits import DecodeSettings
from serve.video.views import ViewRequest

START_SECONDS = 60.0  # a process that is not there by then is given up
DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # no fault of the video that was being read
PROJECT = Path(__file__).resolve().parents[2]

_inherited: list[object] = []  # handles of a parent's processes, kept so that nothing ends them from a fork


class DecodeProcessError(Exception):
    """The process itself does not start; no file is to blame."""


class BadVideoError(Exception):
    """A video that cannot be used; the message is the reason."""


class DecodeProcess:
    """One process that decodes; each call ends by the deadline of the settings, with an answer or `BadVideoError`."""

    def __init__(self, settings: DecodeSettings) -> None:
        self.settings = settings
        self.starts = 0  # processes started so far
        self._running: _Running | None = None

    def frames(self, path: Path, choose: Callable[[int], Int64Array]) -> tuple[list[UInt8Array], int]:
        """The frames [H, W, 3] whose indices `choose` returns for the number of frames, and that number.

        `choose` may be asked again, when the true number turns out to be another.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
        """
        return self._call("frames", {"path": path}, choose)

    def views(self, path: Path, request: ViewRequest) -> tuple[UInt8Array, int]:
        """The views [V, T, 3, S, S] serving would compute, and the number of frames.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
        """
        arrays, num_frames = self._call("views", {"path": path, "request": request}, _nothing_to_choose)
        return arrays[0], num_frames

    def extract(self, path: Path, folder: Path, *, quality: int, short_side: int) -> dict[str, int]:
        """Write all frames into an empty folder; returns `num_frames` and `num_broken_packets`.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
            OSError: the disk is full or may not be written to.
        """
        arguments = {"path": path, "folder": folder, "quality": quality, "short_side": short_side}
        facts: dict[str, int] = self._call("extract", arguments, _nothing_to_choose)[1]
        return facts

    def close(self) -> None:
        """End the process."""
        running, self._running = self._running, None
        if running is not None:
            running.end()

    def _call(self, name: str, arguments: dict[str, Any], choose: Callable[[int], Int64Array]) -> tuple[Any, Any]:
        running = self._ready()
        try:
            return running.call(name, arguments, choose)
        except BadVideoError:
            if not running.is_well:
                self.close()
            raise
        except OSError as error:
            if error.errno in DISK_IS_FULL:
                raise
            raise BadVideoError(f"{error.strerror or error} ({type(error).__name__})") from error
        except BaseException:  # interrupted between question and answer: the next answer would be the wrong one
            self.close()
            raise

    def _ready(self) -> "_Running":
        running = self._running
        if running is not None and running.owner != os.getpid():
            _inherited.append(running)
            running = None
        if running is not None and running.jobs >= self.settings.max_jobs_per_child:
            running.end()
            running = None
        if running is None:
            running = _Running(self.settings)
            self.starts += 1
        self._running = running
        return running

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "starts": 0, "_running": None}


class _Running:
    """One started process."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self.owner = os.getpid()
        self.jobs = 0
        self.is_well = True
        self._pipe, theirs = Pipe()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "training.data.decode_child", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        theirs.close()
        self.end = weakref.finalize(self, _end, self._process, self._pipe, self.owner)
        self._greet()

    def _greet(self) -> None:
        try:
            self._pipe.send(self._settings)
            is_there = self._pipe.poll(START_SECONDS) and self._pipe.recv() is not None
        except (EOFError, OSError):
            is_there = False
        if not is_there:
            self.end()
            raise DecodeProcessError(f"the decode process does not start (exit status {self._process.returncode})")

    def call(self, name: str, arguments: dict[str, Any], choose: Callable[[int], Int64Array]) -> tuple[Any, Any]:
        """(arrays that were sent, the job's answer).

        Raises:
            BadVideoError: the file's fault, or the process was lost over it; then `is_well` is False.
            OSError: what the job met outside the video itself.
        """
        self.jobs += 1
        ends = time.monotonic() + self._settings.deadline_seconds
        arrays: list[UInt8Array] = []
        try:
            self._pipe.send((name, arguments))
            while True:
                if not self._pipe.poll(max(0.0, ends - time.monotonic())):
                    limit = self._settings.deadline_seconds
                    raise DecodeLimitExceeded(f"decoding took longer than the {limit:g} s allowed", limit_seconds=limit)
                kind, value = self._pipe.recv()
                if kind == "choose":
                    self._pipe.send(choose(value))
                elif kind == "frames":
                    distinct = [self._array(shape) for shape in value[0]]
                    arrays = [distinct[place] for place in value[1]]
                elif kind == "error":
                    break
                else:
                    return arrays, value
        except (EOFError, ConnectionResetError, BrokenPipeError) as error:
            self.is_well = False
            raise BadVideoError(str(death(self._process.wait()))) from error
        except DecodeLimitExceeded as error:
            self.is_well = False
            raise BadVideoError(str(error)) from error
        if isinstance(value, ActserveError):
            raise BadVideoError(f"{value} ({type(value).__name__})")
        raise value

    def _array(self, shape: tuple[int, ...]) -> UInt8Array:
        array = np.empty(shape, np.uint8)
        self._pipe.recv_bytes_into(np.ravel(array))  # a view: the array is contiguous
        return array


def _end(process: "subprocess.Popen[bytes]", pipe: Connection, owner: int) -> None:
    if os.getpid() == owner:
        pipe.close()
        process.kill()
        process.wait()


def _nothing_to_choose(_: int) -> Int64Array:
    raise AssertionError("this job chooses its frames itself")
