"""Client of one decode child: start it, send requests to it, kill it. The calls block; `workers.py` is for asyncio.

A child handles one request at a time, with a deadline. After a crash, a timeout or an exceeded limit, the child is lost
and must be replaced with a new `DecodeChild`.
"""

import contextlib
import math
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.errors import ActserveError, DecodeLimitExceeded
from serve.video import child
from serve.video.channel import Channel, ChannelClosed, ProtocolError, receive_json, send_json
from serve.video.fork_server import ForkServer, ForkServerError
from serve.video.isolation.layers import LAYERS, parse_report
from serve.video.limits import DecodeSettings
from serve.video.video_file import open_for_child

START_SECONDS = 30.0  # timeout for a forked child to become ready
REPLY_SECONDS = 10.0  # timeout for an idle child to start a request

FrameSelector = Callable[[int], Int64Array]  # number of frames -> indices of the wanted frames
Part = TypeVar("Part")


class ChildLost(Exception):
    """The child died or was killed during a request; `reason` is the error to report for that request.

    If the child died without exceeding a limit, `is_repeatable` is true: the file may not be the cause.
    """

    def __init__(self, reason: ActserveError) -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.is_repeatable = not isinstance(reason, DecodeLimitExceeded)


class ChildExited(Exception):
    """The child died before the request; the file is not the cause."""


@dataclass(frozen=True)
class JobResult:
    """The return value of a job and the arrays it sent."""

    value: Any
    arrays: list[UInt8Array]


def make_fork_server(*jobs: str, settings: DecodeSettings) -> ForkServer:
    """Return the fork server for children that run jobs of the given modules with these settings."""
    decoders = ["serve.video.decode_decord"] if settings.decoder == "decord" else []
    return ForkServer([*jobs, *decoders], layers=() if settings.isolation == "off" else LAYERS)


class DecodeChild:
    """One child of a fork server."""

    def __init__(self, server: ForkServer, settings: DecodeSettings) -> None:
        """Fork the child and wait until it has set its limits.

        Raises:
            ForkServerError: the child does not start.
        """
        self._server = server
        self._settings = settings
        parent_socket, child_socket = socket.socketpair()
        self._channel = Channel(parent_socket)
        self._exit_status: int | None = None
        try:
            with contextlib.closing(child_socket):
                self.pid = server.fork(child_socket)
            deadline = time.monotonic() + START_SECONDS
            self._channel.send(pickle.dumps(settings), deadline=deadline)
            ready, _, _ = receive_json(self._channel, deadline=deadline)
            self.isolation = parse_report(ready.get("reached"), ready.get("missing"))
            self._check_isolation()
        except (ChannelClosed, TimeoutError) as error:
            self.close()
            raise ForkServerError(f"a decode child did not start: {error}") from error
        except BaseException:
            parent_socket.close()
            raise

    def _check_isolation(self) -> None:
        if self._settings.isolation == "required" and len(self.isolation.reached) < len(LAYERS):
            self.close()
            raise ForkServerError(
                f"the isolation of decode processes is required, but not complete: {self.isolation.describe_missing()}"
            )

    def call(
        self,
        job: str,
        path: Path,
        arguments: Mapping[str, Any],
        *,
        choose: FrameSelector | None = None,
        memory: int | None = None,
        deadline: float | None = None,
    ) -> JobResult:
        """Run the job `module:function` on a file in the child, before `deadline`, a time of `time.monotonic`.

        Without a deadline, `deadline_seconds` of the settings count from now.
        The file is opened here. `memory` is the descriptor of the shared memory of the job. `choose` maps the number
        of frames to the wanted indices; it is called again if the number changes.

        Raises:
            ChildExited: the child died, or was stopped, while it was idle.
            ChildLost: the child died during this request, ran out of memory, or was killed at the deadline; call
                `close`.
            ActserveError: raised by the job; the child can be used again.
            OSError: the file cannot be opened, or raised by the job; the child can be used again.
        """
        deadline = deadline or time.monotonic() + self._settings.deadline_seconds
        request = pickle.dumps((job, dict(arguments)))
        self._start_request(request, path, memory, min(deadline, time.monotonic() + REPLY_SECONDS))
        with self._translate_loss():
            return self._receive_result(choose, deadline)

    def call_in_parts(
        self, job: str, path: Path, arguments: Mapping[str, Any], *, parse: Callable[[Any], Part], memory: int
    ) -> Generator[Part, None, Any]:
        """Run a job that sends its result in parts; yield each part as converted by `parse`, return the job's value.

        The child works on the next part while the caller uses this one. `deadline_seconds` of the settings applies to
        each part.

        Raises:
            ChildExited, ChildLost, ActserveError, OSError: see `call`.
        """
        self._start_request(pickle.dumps((job, dict(arguments))), path, memory, time.monotonic() + REPLY_SECONDS)
        with self._translate_loss():
            while True:
                deadline = time.monotonic() + self._settings.deadline_seconds
                document, _, _ = receive_json(self._channel, deadline=deadline)
                kind = document.get("kind")
                if kind == "done":
                    return document.get("value")
                if kind in ("error", "os_error"):
                    raise self._job_error(document)
                if kind != "part":
                    raise ProtocolError(f"a message has the unknown kind {str(kind)[:20]!r}")
                part = parse(document.get("value"))
                send_json(self._channel, {"kind": "taken"})
                yield part

    @contextlib.contextmanager
    def _translate_loss(self) -> Iterator[None]:
        """Raise `ChildLost` with the reason if the child dies or misses the deadline in the block."""
        limit = self._settings.deadline_seconds
        try:
            yield
        except TimeoutError as error:
            self.kill()
            raise ChildLost(
                DecodeLimitExceeded(f"decoding took longer than the {limit:g} s allowed", limit_seconds=limit)
            ) from error
        except ChannelClosed as error:
            if isinstance(error, ProtocolError):
                self.kill()
            raise ChildLost(child.exit_error(self.exit_status())) from error

    def kill(self) -> None:
        """Kill the child; a call that waits for it in another thread raises `ChildLost`."""
        if self._exit_status is None:  # the process id is not reused until the exit status has been read
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def is_stopped(self) -> bool:
        """Return whether a signal has stopped the child; False where there is no `/proc`."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return self._exit_status is None and status.rpartition(")")[2].split()[0] == "T"

    def exit_status(self) -> int:
        """Return the exit status; if the child is still running after one second, kill it first."""
        if self._exit_status is None:
            self._exit_status = self._server.exit_status(self.pid)
        return self._exit_status

    def close(self) -> None:
        """Kill the child and close the channel."""
        self.kill()
        self.exit_status()
        self._channel.close()

    def _start_request(self, request: bytes, path: Path, memory: int | None, deadline: float) -> None:
        """Send a request with its file and wait until the child has started it."""
        try:
            with open_for_child(path) as file:
                descriptors = [file] if memory is None else [file, memory]
                self._channel.send(request, descriptors=descriptors, deadline=deadline)
            document, _, _ = receive_json(self._channel, deadline=deadline)
        except (ChannelClosed, TimeoutError) as error:
            self.kill()
            raise ChildExited from error
        if document.get("kind") != "started":
            self.kill()
            raise ChildExited

    def _receive_result(self, choose: FrameSelector | None, deadline: float) -> JobResult:
        arrays: list[UInt8Array] = []
        while True:
            document, payload_bytes, _ = receive_json(self._channel, deadline=deadline)
            kind = document.get("kind")
            if kind == "array":
                arrays.append(self._receive_array(document, payload_bytes, deadline))
            elif kind == "choose" and choose is not None:
                indices = choose(_check_count(document.get("num_frames")))
                self._channel.send(child.encode_indices(indices), deadline=deadline)
            elif kind in ("error", "os_error"):
                raise self._job_error(document)
            elif kind == "done":
                return JobResult(document.get("value"), arrays)
            else:
                raise ProtocolError(f"a message has the unknown kind {str(kind)[:20]!r}")

    def _job_error(self, document: dict[str, Any]) -> Exception:
        """Return the error of a message; a child that ran out of memory is killed, because it may not have freed it."""
        error = child.decode_error(document)
        if not isinstance(error, DecodeLimitExceeded):
            return error
        self.kill()
        return ChildLost(error)

    def _receive_array(self, document: dict[str, Any], payload_bytes: int, deadline: float) -> UInt8Array:
        lengths = document.get("shape")
        shape = tuple(_check_count(length) for length in lengths) if isinstance(lengths, list) else ()
        if (
            min(shape, default=0) < 1
            or math.prod(shape) != payload_bytes
            or payload_bytes > self._settings.max_memory_bytes
        ):
            raise ProtocolError(f"an array of shape {shape} has an invalid payload of {payload_bytes} bytes")
        array = np.empty(shape, np.uint8)
        self._channel.receive_into(array.reshape(-1), deadline=deadline)
        return array


def _check_count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**40:
        raise ProtocolError(f"{str(value)[:20]!r} is not a valid count")
    return value
