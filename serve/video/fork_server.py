"""A clean process from which decode children are forked, so that a child starts in milliseconds.

The process is started with a minimal environment (without secrets such as the store password), loads the decoding
libraries once, forks on request and reports the exit status of its children. It ends with the process that started it.
"""

import contextlib
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve.video import child
from serve.video.channel import Channel, ChannelClosed, receive_json, send_json

START_SECONDS = 60.0  # to load the libraries, on a busy machine
REQUEST_SECONDS = 30.0  # to fork, or to report an exit status
EXIT_SECONDS = 1.0  # after which a child with a closed channel is killed
PROJECT = Path(__file__).resolve().parents[2]
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "PYTHONWARNINGS")


class ForkServerError(Exception):
    """The fork server does not start or does not answer; the file is not the cause."""


class ForkServer:
    """Client of one fork server, safe for several threads. The process is started on first use."""

    def __init__(self, preload: Sequence[str]) -> None:
        """`preload` are the modules that the process imports at its start."""
        self._preload = tuple(preload)
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._end: weakref.finalize[..., ForkServer] | None = None
        self.pid: int | None = None

    def fork(self, end: socket.socket) -> int:
        """Fork a child that serves the other end of a socket pair; return its process id.

        Raises:
            ForkServerError: the process does not start.
        """
        with self._lock:
            for is_last in (False, True):  # the process is restarted if it has died
                try:
                    return int(self._ask({"request": "fork"}, descriptors=[end.fileno()])["pid"])
                except (ChannelClosed, TimeoutError) as error:
                    self._stop()
                    if is_last:
                        raise ForkServerError(f"the fork server of the decoder does not answer: {error}") from error
        raise AssertionError("the loop above returns or raises")

    def exit_status(self, pid: int) -> int:
        """Return the exit status of a child whose channel is closed; kill the child if it runs for another second.

        Negative numbers are signals, as in `subprocess`. Children of a fork server that died count as killed.
        """
        with self._lock:
            if self._channel is None:
                return -signal.SIGKILL
            try:
                return int(self._ask({"request": "exit_status", "pid": pid})["status"])
            except (ChannelClosed, TimeoutError):
                self._stop()
                return -signal.SIGKILL

    def close(self) -> None:
        """End the process; its children end with it."""
        with self._lock:
            self._stop()

    def _ask(self, request: dict[str, Any], *, descriptors: Sequence[int] = ()) -> dict[str, Any]:
        channel = self._channel or self._start()
        send_json(channel, request, descriptors=descriptors)
        answer, _, _ = receive_json(channel, ends=time.monotonic() + REQUEST_SECONDS)
        return answer

    def _start(self) -> Channel:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # thread pools do not survive a fork
        command = [sys.executable, "-m", "serve.video.fork_server", str(theirs.fileno()), *self._preload]
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        channel = self._channel = Channel(ours)
        self._end = weakref.finalize(self, _end, process, channel, os.getpid())
        try:
            receive_json(channel, ends=time.monotonic() + START_SECONDS)
        except (ChannelClosed, TimeoutError) as error:
            self._stop()
            raise ForkServerError(
                f"the fork server of the decoder did not start (exit status {process.returncode})"
            ) from error
        self.pid = process.pid
        return channel

    def _stop(self) -> None:
        end, self._end, self._channel, self.pid = self._end, None, None, None
        if end is not None:
            end()


def _end(process: "subprocess.Popen[bytes]", channel: Channel, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked from the owner
        channel.close()
        process.kill()
        process.wait()


def serve(control: Channel, modules: Sequence[str]) -> None:
    """Load modules, then fork children on request until the owner is gone."""
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # loaded modules stay shared with the children
    send_json(control, {"ready": True})
    children: set[int] = set()
    with contextlib.suppress(ChannelClosed):
        while True:
            request, _, descriptors = receive_json(control)
            if request["request"] == "fork":
                pid = _fork(control, descriptors[0])
                children.add(pid)
                send_json(control, {"pid": pid})
            else:
                pid = int(request["pid"])
                send_json(control, {"status": _exit_status(pid)})
                children.discard(pid)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _fork(control: Channel, descriptor: int) -> int:
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    status = 0
    try:
        control.close()
        child.serve(Channel(socket.socket(fileno=descriptor)))
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        os._exit(status)


def _exit_status(pid: int) -> int:
    ends = time.monotonic() + EXIT_SECONDS
    try:
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > ends:
                os.kill(pid, signal.SIGKILL)
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            time.sleep(0.002)
    except ChildProcessError:  # not a child of this process
        return -signal.SIGKILL


def main(arguments: Sequence[str]) -> None:
    """Serve the socket whose descriptor is the first argument; the others are modules to preload."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner handles Ctrl-C and ends this process
    serve(Channel(socket.socket(fileno=int(arguments[0]))), arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
