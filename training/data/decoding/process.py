"""Decoding for training in a child process: a crash, a hang or memory exhaustion affects only one file.

`DecodeProcess` calls the jobs of `training.data.decoding.jobs` through `serve.video.decode_child` and waits for the
result. The child is started on first use, is replaced after a crash, and exits when its owner exits. A worker of a
DataLoader may own a `DecodeProcess`.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.arrays import Int64Array, UInt8Array
from serve.errors import ActserveError
from serve.video.decode_child import ChildExited, ChildLost, DecodeChild, FrameSelector, JobResult, make_fork_server
from serve.video.fork_server import ForkServer, ForkServerError
from serve.video.limits import DecodeSettings
from serve.video.view_request import ViewRequest

JOBS_MODULE = "training.data.decoding.jobs"
DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # caused by the disk, not by the video

# Processes of the parent that a fork inherits; referenced so that garbage collection in the fork does not end them.
_inherited: list[object] = []


class DecodeProcessError(Exception):
    """The decode process cannot be started."""


class BadVideoError(Exception):
    """The video cannot be used; the message says why."""


class DecodeProcess:
    """A decode child; each call returns, or raises `BadVideoError`, within the deadline of the settings."""

    def __init__(self, settings: DecodeSettings) -> None:
        self.settings = settings
        self.num_starts = 0  # number of children that were started
        self._owner_pid = os.getpid()
        self._server: ForkServer | None = None
        self._child: DecodeChild | None = None
        self._num_jobs = 0  # jobs that the current child has run

    def frames(self, path: Path, choose: Callable[[int], Int64Array]) -> tuple[list[UInt8Array], int]:
        """Return the frames [H, W, 3] whose indices `choose` returns, and the number of frames.

        `choose` is called again if the actual number of frames differs from the expected one.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
        """
        result = self._call("frames", path, {}, choose=choose)
        return [result.arrays[position] for position in result.value["positions"]], int(result.value["num_frames"])

    def probe(self, path: Path) -> str:
        """Return the name of a video's container format.

        Raises:
            BadVideoError: the decoder cannot open the file.
        """
        return str(self._call("probe", path, {}).value["container"])

    def views(self, path: Path, request: ViewRequest) -> tuple[UInt8Array, int]:
        """Return the views [V, T, 3, S, S] that serving computes, and the number of frames.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
        """
        result = self._call("views", path, {"request": request})
        return result.arrays[0], int(result.value["num_frames"])

    def extract(self, path: Path, folder: Path, *, quality: int, short_side: int) -> dict[str, int]:
        """Write all frames into an empty folder; return `num_frames` and `num_broken_packets`.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
            OSError: the disk is full or not writable.
        """
        arguments = {"folder": folder, "quality": quality, "short_side": short_side}
        counts: dict[str, int] = self._call("extract", path, arguments).value
        return counts

    @property
    def pid(self) -> int | None:
        """Return the process id of the child; None if no child is running."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the child and its fork server."""
        if self._owner_pid == os.getpid():
            self._end_child()
            server, self._server = self._server, None
            if server is not None:
                server.close()

    def __del__(self) -> None:
        """End the child when this object is deleted, because datasets have no close method."""
        if hasattr(self, "_server"):  # False if the constructor failed
            self.close()

    def _call(
        self, name: str, path: Path, arguments: dict[str, Any], *, choose: FrameSelector | None = None
    ) -> JobResult:
        try:
            try:
                return self._ensure_child().call(f"{JOBS_MODULE}:{name}", path, arguments, choose=choose)
            except ChildExited:  # killed while it was idle
                self._end_child()
                return self._ensure_child().call(f"{JOBS_MODULE}:{name}", path, arguments, choose=choose)
        except ActserveError as error:  # the child continues to run
            raise BadVideoError(f"{error} ({type(error).__name__})") from error
        except ChildLost as lost:
            self._end_child()
            raise BadVideoError(str(lost.reason)) from lost
        except OSError as error:
            if error.errno in DISK_ERRNOS:
                raise
            raise BadVideoError(f"{error.strerror or error} ({type(error).__name__})") from error
        except (ForkServerError, ChildExited) as error:
            raise DecodeProcessError(f"the decode process cannot be started: {error}") from error
        except BaseException:  # interrupted: the child's result for this call would be taken for that of the next one
            self._end_child()
            raise

    def _ensure_child(self) -> DecodeChild:
        """Return the running child; start one if there is none, and replace it after its maximum number of jobs."""
        if self._owner_pid != os.getpid():
            _inherited.append((self._server, self._child))
            self._owner_pid, self._server, self._child = os.getpid(), None, None
        if self._child is not None and self._num_jobs >= self.settings.max_jobs_per_child:
            self._end_child()
        if self._server is None:
            self._server = make_fork_server(JOBS_MODULE, settings=self.settings)
        if self._child is None:
            self._child, self._num_jobs = DecodeChild(self._server, self.settings), 0
            self.num_starts += 1
        self._num_jobs += 1
        return self._child

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"])  # type: ignore[misc]
