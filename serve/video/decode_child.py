"""The parent's side of one decode child: start it, send requests, kill it. Blocking; `workers.py` is for asyncio.

A child handles one request at a time, with a deadline. After a crash, a timeout or an exceeded limit, the child is lost
and must be replaced by a new `DecodeChild`.
"""

import contextlib
import math
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.errors import ActserveError, DecodeLimitExceeded
from serve.video import child
from serve.video.channel import Channel, ChannelClosed, ProtocolError, receive_json, send_json
from serve.video.fork_server import ForkServer, ForkServerError
from serve.video.limits import DecodeSettings

START_SECONDS = 30.0  # limit for a forked child to become ready
REPLY_SECONDS = 10.0  # limit for an idle child to start a request

Choose = Callable[[int], Int64Array]  # number of frames -> indices of those that are wanted
Part = TypeVar("Part")


class ChildLost(Exception):
    """The child died or was killed during a request; `reason` is the error of that request."""

    def __init__(self, reason: ActserveError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class ChildExited(Exception):
    """The child died before the request; the file is not the cause."""


@dataclass(frozen=True)
class JobResult:
    """The return value of a job and the arrays it sent."""

    value: Any
    arrays: list[UInt8Array]


class DecodeChild:
    """One child of a fork server."""

    def __init__(self, server: ForkServer, settings: DecodeSettings) -> None:
        """Fork the child and wait until its limits are set.

        Raises:
            ForkServerError: the child does not start.
        """
        self._server = server
        self._settings = settings
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        self._exit_status: int | None = None
        try:
            with contextlib.closing(theirs):
                self.pid = server.fork(theirs)
            ends = time.monotonic() + START_SECONDS
            self._channel.send(pickle.dumps(settings), ends=ends)
            receive_json(self._channel, ends=ends)
        except (ChannelClosed, TimeoutError) as error:
            self.close()
            raise ForkServerError(f"a decode child did not start: {error}") from error
        except BaseException:
            ours.close()
            raise

    def call(
        self,
        job: str,
        arguments: Mapping[str, Any],
        *,
        choose: Choose | None = None,
        descriptors: Sequence[int] = (),
    ) -> JobResult:
        """Run a job `module:function` in the child within the deadline of the settings.

        `choose` maps a number of frames to the wanted indices; it may be called again with another number.

        Raises:
            ChildExited: the child died, or was stopped, while it was idle.
            ChildLost: the child died during this request, ran out of memory, or was killed at the deadline; close this
                object.
            ActserveError, OSError: raised by the job; the child can be used again.
        """
        ends = time.monotonic() + self._settings.deadline_seconds
        self._begin(pickle.dumps((job, dict(arguments))), descriptors, min(ends, time.monotonic() + REPLY_SECONDS))
        with self._judged():
            return self._answer(choose, ends)

    def parts(
        self, job: str, arguments: Mapping[str, Any], *, taken: Callable[[Any], Part], descriptors: Sequence[int] = ()
    ) -> Generator[Part, None, Any]:
        """Run a job that sends its result in parts; yield what `taken` makes of each, and return the job's value.

        The child works on the next part while the caller uses this one. The deadline of the settings applies to each
        part.

        Raises:
            ChildExited, ChildLost, ActserveError, OSError: see `call`.
        """
        self._begin(pickle.dumps((job, dict(arguments))), descriptors, time.monotonic() + REPLY_SECONDS)
        with self._judged():
            while True:
                document, _, _ = receive_json(self._channel, ends=time.monotonic() + self._settings.deadline_seconds)
                kind = document.get("kind")
                if kind == "done":
                    return document.get("value")
                if kind in ("error", "os_error"):
                    raise self._error(document)
                if kind != "part":
                    raise ProtocolError(f"a message has the unknown kind {str(kind)[:20]!r}")
                part = taken(document.get("value"))
                send_json(self._channel, {"kind": "taken"})
                yield part

    @contextlib.contextmanager
    def _judged(self) -> Iterator[None]:
        """Translate the loss of the child during a request."""
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
            raise ChildLost(child.death(self.exit_status())) from error

    def kill(self) -> None:
        """Kill the child; a call that waits for it in another thread ends with `ChildLost`."""
        if self._exit_status is None:  # its id is not reused before its exit status is read
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def exit_status(self) -> int:
        """Return the exit status; wait for at most a second, then kill the child."""
        if self._exit_status is None:
            self._exit_status = self._server.exit_status(self.pid)
        return self._exit_status

    def close(self) -> None:
        """Kill the child and close the channel."""
        self.kill()
        self.exit_status()
        self._channel.close()

    def _begin(self, request: bytes, descriptors: Sequence[int], ends: float) -> None:
        """Send a request and wait until the child has started it."""
        try:
            self._channel.send(request, descriptors=descriptors, ends=ends)
            document, _, _ = receive_json(self._channel, ends=ends)
        except (ChannelClosed, TimeoutError) as error:
            self.kill()
            raise ChildExited from error
        if document.get("kind") != "started":
            self.kill()
            raise ChildExited

    def _answer(self, choose: Choose | None, ends: float) -> JobResult:
        arrays: list[UInt8Array] = []
        while True:
            document, num_payload, _ = receive_json(self._channel, ends=ends)
            kind = document.get("kind")
            if kind == "array":
                arrays.append(self._array(document, num_payload, ends))
            elif kind == "choose" and choose is not None:
                indices = choose(_count(document.get("num_frames")))
                self._channel.send(child.choice(indices), ends=ends)
            elif kind in ("error", "os_error"):
                raise self._error(document)
            elif kind == "done":
                return JobResult(document.get("value"), arrays)
            else:
                raise ProtocolError(f"a message has the unknown kind {str(kind)[:20]!r}")

    def _error(self, document: dict[str, Any]) -> Exception:
        """Return the error of a message; a child that ran out of memory is killed, which it may still hold."""
        error = child.error_from(document)
        if not isinstance(error, DecodeLimitExceeded):
            return error
        self.kill()
        return ChildLost(error)

    def _array(self, document: dict[str, Any], num_payload: int, ends: float) -> UInt8Array:
        lengths = document.get("shape")
        shape = tuple(_count(length) for length in lengths) if isinstance(lengths, list) else ()
        if (
            min(shape, default=0) < 1
            or math.prod(shape) != num_payload
            or num_payload > self._settings.max_memory_bytes
        ):
            raise ProtocolError(f"an array of shape {shape} comes in {num_payload} bytes")
        array = np.empty(shape, np.uint8)
        self._channel.receive_into(array.reshape(-1), ends=ends)
        return array


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**40:
        raise ProtocolError(f"{str(value)[:20]!r} is not a count")
    return value
