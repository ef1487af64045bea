"""A clean process from which decode children are forked, so that a child starts in milliseconds.

The process is started with a minimal environment (without secrets such as the store password), loads the decoding
libraries once, gives up what its children do not need (`isolation/layers.py`), forks on request and reports the exit
status of its children. It exits when its parent exits.
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
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from serve.video import child
from serve.video.channel import Channel, ChannelClosed, receive_json, send_json
from serve.video.isolation.layers import Isolation

START_SECONDS = 60.0  # timeout for the process to load the libraries, on a busy machine
REQUEST_SECONDS = 30.0  # timeout for a fork or an exit status
EXIT_SECONDS = 1.0  # time that a child with a closed channel gets to exit before it is killed
PROJECT_ROOT = Path(__file__).resolve().parents[2]
INHERITED_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "PYTHONWARNINGS")


class ForkServerError(Exception):
    """The fork server or a child does not start or respond; this says nothing about the video being decoded."""


class ForkServer:
    """Client of one fork server, thread-safe. The process is started on first use."""

    def __init__(self, preload: Sequence[str], *, layers: Sequence[str]) -> None:
        """`preload` lists the modules that the process imports at startup; isolated children cannot import others.

        `layers` names the layers of the isolation.
        """
        self._preload = tuple(preload)
        self._layers = tuple(layers)
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._finalizer: weakref.finalize[..., ForkServer] | None = None
        self.pid: int | None = None

    def fork(self, child_socket: socket.socket) -> int:
        """Fork a child that serves requests from `child_socket`; return its process id.

        Raises:
            ForkServerError: the process cannot be started or does not respond.
        """
        with self._lock:
            for is_last in (False, True):  # a process that has died is restarted once
                try:
                    return int(self._request({"request": "fork"}, descriptors=[child_socket.fileno()])["pid"])
                except (ChannelClosed, TimeoutError) as error:
                    self._stop()
                    if is_last:
                        raise ForkServerError(f"the fork server of the decoder does not respond: {error}") from error
        raise AssertionError("the loop above returns or raises")

    def exit_status(self, pid: int) -> int:
        """Return the exit status of a child whose channel is closed; kill a child that does not exit within a second.

        Negative numbers are signals, as in `subprocess`. If the fork server itself has died, its children are reported
        as killed.
        """
        with self._lock:
            if self._channel is None:
                return -signal.SIGKILL
            try:
                return int(self._request({"request": "exit_status", "pid": pid})["status"])
            except (ChannelClosed, TimeoutError):
                self._stop()
                return -signal.SIGKILL

    def close(self) -> None:
        """Stop the process; its children are killed."""
        with self._lock:
            self._stop()

    def _request(self, request: dict[str, Any], *, descriptors: Sequence[int] = ()) -> dict[str, Any]:
        channel = self._channel or self._start()
        send_json(channel, request, descriptors=descriptors)
        response, _, _ = receive_json(channel, deadline=time.monotonic() + REQUEST_SECONDS)
        return response

    def _start(self) -> Channel:
        parent_socket, child_socket = socket.socketpair()
        environment = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH")]))
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # thread pools do not survive a fork
        layers = ",".join(self._layers)
        command = [sys.executable, "-m", "serve.video.fork_server", str(child_socket.fileno()), layers, *self._preload]
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[child_socket.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        child_socket.close()
        channel = self._channel = Channel(parent_socket)
        self._finalizer = weakref.finalize(self, _terminate, process, channel, os.getpid())
        try:
            receive_json(channel, deadline=time.monotonic() + START_SECONDS)
        except (ChannelClosed, TimeoutError) as error:
            self._stop()
            raise ForkServerError(
                f"the fork server of the decoder did not start (exit status {process.returncode})"
            ) from error
        self.pid = process.pid
        return channel

    def _stop(self) -> None:
        finalizer, self._finalizer, self._channel, self.pid = self._finalizer, None, None, None
        if finalizer is not None:
            finalizer()


def _terminate(process: "subprocess.Popen[bytes]", channel: Channel, owner_pid: int) -> None:
    if os.getpid() == owner_pid:  # not in a process that was forked from the owner
        channel.close()
        process.kill()
        process.wait()


def serve(control: Channel, modules: Sequence[str], *, layers: Collection[str]) -> None:
    """Import modules, then fork children on request until the parent closes the channel; then kill the children."""
    for name in modules:
        importlib.import_module(name)
    importlib.import_module(
        "serve.video.late_modules"
    ).load_late_modules()  # not at the top: the server needs no Pillow
    mapped_bytes = child.read_mapped_bytes()
    isolation = Isolation(layers)
    isolation.enter_process_layers()
    gc.collect()
    gc.freeze()  # loaded modules stay shared with the children
    send_json(control, {"ready": True})
    children: set[int] = set()
    with contextlib.suppress(ChannelClosed):
        while True:
            request, _, descriptors = receive_json(control)
            if request["request"] == "fork":
                pid = _fork(control, descriptors[0], isolation, mapped_bytes=mapped_bytes)
                children.add(pid)
                send_json(control, {"pid": pid})
            else:
                pid = int(request["pid"])
                send_json(control, {"status": _exit_status(pid)})
                children.discard(pid)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _fork(control: Channel, descriptor: int, isolation: Isolation, *, mapped_bytes: int) -> int:
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    status = 0
    try:
        control.close()
        channel = Channel(socket.socket(fileno=descriptor), receives_descriptors=True)
        child.serve(channel, isolation, mapped_bytes=mapped_bytes)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        os._exit(status)


def _exit_status(pid: int) -> int:
    deadline = time.monotonic() + EXIT_SECONDS
    try:
        while True:
            exited_pid, status = os.waitpid(pid, os.WNOHANG)
            if exited_pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            time.sleep(0.002)
    except ChildProcessError:  # not a child of this process
        return -signal.SIGKILL


def main(arguments: Sequence[str]) -> None:
    """Serve the socket whose descriptor is the first argument; then come the layers and the modules."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and stops this process
    descriptor, layers, *modules = arguments
    control = Channel(socket.socket(fileno=int(descriptor)), receives_descriptors=True)
    serve(control, modules, layers=layers.split(","))


if __name__ == "__main__":
    main(sys.argv[1:])
