"""Decoding for training in a child process: a file that crashes, hangs or floods it costs that file alone.

The synchronous use of `serve.video.decode_child`, with training's own jobs. The child is started when first needed,
ends with its owner, and is replaced when it was lost. A worker of torch's DataLoader may own one.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.arrays import Int64Array, UInt8Array
from serve.errors import ActserveError
from serve.video.decode_child import ChildExited, ChildLost, Choose, DecodeChild, JobResult
from serve.video.fork_server import ForkServer, ForkServerError
from serve.video.limits import DecodeSettings
from serve.video.view_request import ViewRequest

JOBS = "training.data.decoding.jobs"
DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  # no fault of the video that was being read

_inherited: list[object] = []  # handles of a parent's processes, kept so that nothing ends them from a fork


class DecodeProcessError(Exception):
    """The process itself does not start; no file is to blame."""


class BadVideoError(Exception):
    """A video that cannot be used; the message is the reason."""


class DecodeProcess:
    """One child that decodes; each call ends by the deadline of the settings, with an answer or `BadVideoError`."""

    def __init__(self, settings: DecodeSettings) -> None:
        self.settings = settings
        self.starts = 0  # children started so far
        self._owner = os.getpid()
        self._server: ForkServer | None = None
        self._child: DecodeChild | None = None
        self._jobs = 0  # of this child

    def frames(self, path: Path, choose: Callable[[int], Int64Array]) -> tuple[list[UInt8Array], int]:
        """The frames [H, W, 3] whose indices `choose` returns for the number of frames, and that number.

        `choose` may be asked again, when the true number turns out to be another.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
        """
        answer = self._call("frames", {"path": path}, choose=choose)
        return [answer.arrays[place] for place in answer.value["places"]], int(answer.value["num_frames"])

    def probe(self, path: Path) -> str:
        """The container of a video.

        Raises:
            BadVideoError: the decoder does not open the file.
        """
        return str(self._call("probe", {"path": path}).value["container"])

    def views(self, path: Path, request: ViewRequest) -> tuple[UInt8Array, int]:
        """The views [V, T, 3, S, S] serving would compute, and the number of frames.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
        """
        answer = self._call("views", {"path": path, "request": request})
        return answer.arrays[0], int(answer.value["num_frames"])

    def extract(self, path: Path, folder: Path, *, quality: int, short_side: int) -> dict[str, int]:
        """Write all frames into an empty folder; returns `num_frames` and `num_broken_packets`.

        Raises:
            BadVideoError: the file cannot be decoded within its limits.
            OSError: the disk is full or may not be written to.
        """
        arguments = {"path": path, "folder": folder, "quality": quality, "short_side": short_side}
        facts: dict[str, int] = self._call("extract", arguments).value
        return facts

    @property
    def pid(self) -> int | None:
        """Process id of the child; None where there is none."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the child and the process it is forked from."""
        if self._owner == os.getpid():
            self._end_child()
            server, self._server = self._server, None
            if server is not None:
                server.close()

    def __del__(self) -> None:
        """Datasets own one without an end of their own: it ends when nothing refers to them any more."""
        if hasattr(self, "_server"):  # unless it was never made
            self.close()

    def _call(self, name: str, arguments: dict[str, Any], *, choose: Choose | None = None) -> JobResult:
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
            raise DecodeProcessError(f"the decode process does not start: {error}") from error
        except BaseException:  # interrupted between question and answer: the next answer would be the wrong one
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
