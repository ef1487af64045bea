"""Decoding for training in a child process: crashes, hangs and memory exhaustion affect only one file.

Synchronous use of `serve.video.decode_child` with the jobs of training. The child is started on first use, ends with
its owner, and is replaced after a crash. A worker of torch's DataLoader may own one.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.arrays import Int64Array, UInt8Array
from serve.errors import ActserveError
from serve.video.decode_child import ChildExited, ChildLost, DecodeChild, FrameSelector, JobResult
from serve.video.fork_server import ForkServer, ForkServerError
from serve.video.limits import DecodeSettings
from serve.video.view_request import ViewRequest

JOBS = "training.data.decoding.jobs"
DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # not caused by the video

_inherited: list[object] = []  # handles of the parent's processes, referenced so that a fork does not end them


class DecodeProcessError(Exception):
    """The decode process cannot be started."""


class BadVideoError(Exception):
    """The video cannot be used; the message is the reason."""


class DecodeProcess:
    """A decode child; each call ends within the deadline of the settings, with a result or `BadVideoError`."""

    def __init__(self, settings: DecodeSettings) -> None:
        self.settings = settings
        self.starts = 0  # number of started children
        self._owner = os.getpid()
        self._server: ForkServer | None = None
        self._child: DecodeChild | None = None
        self._jobs = 0  # jobs of the current child

    def frames(self, path: Path, choose: Callable[[int], Int64Array]) -> tuple[list[UInt8Array], int]:
        """Return the frames [H, W, 3] whose indices `choose` returns, and the number of frames.

        `choose` is called again if the actual number of frames differs from the expected one.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
        """
        answer = self._call("frames", {"path": path}, choose=choose)
        return [answer.arrays[place] for place in answer.value["places"]], int(answer.value["num_frames"])

    def probe(self, path: Path) -> str:
        """Return the container of a video.

        Raises:
            BadVideoError: the decoder cannot open the file.
        """
        return str(self._call("probe", {"path": path}).value["container"])

    def views(self, path: Path, request: ViewRequest) -> tuple[UInt8Array, int]:
        """Return the views [V, T, 3, S, S] that serving computes, and the number of frames.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
        """
        answer = self._call("views", {"path": path, "request": request})
        return answer.arrays[0], int(answer.value["num_frames"])

    def extract(self, path: Path, folder: Path, *, quality: int, short_side: int) -> dict[str, int]:
        """Write all frames into an empty folder; return `num_frames` and `num_broken_packets`.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
            OSError: the disk is full or not writable.
        """
        arguments = {"path": path, "folder": folder, "quality": quality, "short_side": short_side}
        facts: dict[str, int] = self._call("extract", arguments).value
        return facts

    @property
    def pid(self) -> int | None:
        """Return the process id of the child, or None."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the child and its fork server."""
        if self._owner == os.getpid():
            self._end_child()
            server, self._server = self._server, None
            if server is not None:
                server.close()

    def __del__(self) -> None:
        """End the child with its owner; datasets have no close method."""
        if hasattr(self, "_server"):  # unset if the constructor failed
            self.close()

    def _call(self, name: str, arguments: dict[str, Any], *, choose: FrameSelector | None = None) -> JobResult:
        try:
            try:
                return self._ready().call(f"{JOBS}:{name}", arguments, choose=choose)
            except ChildExited:  # killed while it was idle
                self._end_child()
                return self._ready().call(f"{JOBS}:{name}", arguments, choose=choose)
        except ActserveError as error:  # the child lives on
            raise BadVideoError(f"{error} ({type(error).__name__})") from error
        except ChildLost as lost:
            self._end_child()
            raise BadVideoError(str(lost.reason)) from lost
        except OSError as error:
            if error.errno in DISK_IS_FULL:
                raise
            raise BadVideoError(f"{error.strerror or error} ({type(error).__name__})") from error
        except (ForkServerError, ChildExited) as error:
            raise DecodeProcessError(f"the decode process cannot be started: {error}") from error
        except BaseException:  # interrupted between request and answer: the next answer would be for the wrong request
            self._end_child()
            raise

    def _ready(self) -> DecodeChild:
        if self._owner != os.getpid():
            _inherited.append((self._server, self._child))
            self._owner, self._server, self._child = os.getpid(), None, None
        if self._child is not None and self._jobs >= self.settings.max_jobs_per_child:
            self._end_child()
        if self._server is None:
            self._server = ForkServer([JOBS])
        if self._child is None:
            self._child, self._jobs = DecodeChild(self._server, self.settings), 0
            self.starts += 1
        self._jobs += 1
        return self._child

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["settings"])  # type: ignore[misc]
