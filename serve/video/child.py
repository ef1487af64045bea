"""The code that runs in a decode child: restrict this process, then run one job after another until the parent exits.

Resource limits keep a hostile file from exhausting memory, processors or disk. The layers of `isolation/layers.py`
protect the server if a file exploits a codec library: the child can use only the descriptors that it receives.

A job is a function, named as `module:function`, that takes a `Job` and keyword arguments and returns a JSON value.
Errors are sent as JSON too, so that a compromised child cannot make its parent execute code.
"""

import contextlib
import ctypes
import importlib
import json
import math
import mmap
import os
import pickle
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serve import errors
from serve.arrays import Int64Array, UInt8Array
from serve.errors import ActserveError, DecodeLimitExceeded, EngineUnavailable, UndecodableVideo
from serve.video.channel import Channel, ChannelClosed, receive_json, send_json
from serve.video.isolation.layers import Isolation
from serve.video.limits import DecodeSettings
from serve.video.video_file import DescriptorFile

_PR_SET_PDEATHSIG, _M_ARENA_MAX = 1, -8
MAX_OPEN_FILES = 64
CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"})


@dataclass(frozen=True)
class Job:
    """Context of one request of the parent, passed to the function that runs it."""

    channel: Channel
    settings: DecodeSettings
    descriptors: list[int]  # received with the request: the file, then the shared memory if the job uses it

    @property
    def file(self) -> DescriptorFile:
        """The file to decode."""
        return DescriptorFile(self.descriptors[0])

    def shared_array(self, shape: tuple[int, ...]) -> UInt8Array:
        """Return the shared memory of the request as a writable array."""
        block = mmap.mmap(self.descriptors[1], math.prod(shape))
        return np.frombuffer(block, dtype=np.uint8).reshape(shape)

    def send_array(self, array: UInt8Array) -> None:
        """Send one array to the parent, which receives the arrays in order."""
        flat = np.ascontiguousarray(array)
        send_json(self.channel, {"kind": "array", "shape": list(array.shape)}, flat.reshape(-1))

    def send_part(self, value: dict[str, Any]) -> None:
        """Send one part of the result, with its arrays in the shared memory; wait until the parent has read it."""
        send_json(self.channel, {"kind": "part", "value": value})
        receive_json(self.channel)

    def choose(self, num_frames: int) -> Int64Array:
        """Ask the parent which of `num_frames` frames to decode; return their indices."""
        send_json(self.channel, {"kind": "choose", "num_frames": num_frames})
        document, _, _ = receive_json(self.channel)
        return np.asarray(document["indices"], dtype=np.int64)


def serve(channel: Channel, isolation: Isolation, *, mapped_bytes: int) -> None:
    """Restrict this process, then run requests until the parent closes the channel.

    `mapped_bytes` is the size of the address space that the process has mapped before the first request.
    """
    with contextlib.suppress(ChannelClosed):
        settings: DecodeSettings = pickle.loads(channel.receive()[0])  # noqa: S301  # from the parent
        set_limits(settings, mapped_bytes=mapped_bytes)
        isolation.enter_child_layers()
        report = isolation.report
        send_json(channel, {"kind": "ready", "reached": report.reached, "missing": report.missing})
        while True:
            header, _, descriptors = channel.receive()
            name, arguments = pickle.loads(header)  # noqa: S301  # from the parent
            send_json(channel, {"kind": "started"})  # if the child dies before this, the file is not the cause
            try:
                send_json(channel, _run_job(Job(channel, settings, descriptors), name, arguments))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)


def _run_job(job: Job, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one job; return its result or its error as a JSON message."""
    from serve.video.library_errors import decoder_fault, is_exhaustion, resource_exhausted_error

    extend_cpu_limit(job.settings.max_cpu_seconds)
    try:
        module, _, function = name.partition(":")
        return {"kind": "done", "value": getattr(importlib.import_module(module), function)(job, **arguments)}
    except ChannelClosed:
        raise
    except DecodeLimitExceeded as error:
        return encode_error(_add_memory_limit(error, job.settings))
    except (ActserveError, OSError) as error:
        return encode_error(error)
    except Exception as error:
        if is_exhaustion(error):
            return encode_error(_add_memory_limit(resource_exhausted_error(), job.settings))
        return encode_error(decoder_fault(error))


def _add_memory_limit(error: DecodeLimitExceeded, settings: DecodeSettings) -> DecodeLimitExceeded:
    error.details.setdefault("limit_bytes", settings.max_memory_bytes)
    return error


def encode_indices(indices: Int64Array) -> bytes:
    """Encode the parent's reply to `Job.choose` as a message header."""
    return json.dumps({"indices": np.asarray(indices).tolist()}).encode()


def encode_error(error: ActserveError | OSError) -> dict[str, Any]:
    """Return an error as a JSON message."""
    if isinstance(error, ActserveError):
        facts = json.loads(json.dumps(error.details, default=str))
        notes = list(getattr(error, "__notes__", ()))
        return {"kind": "error", "name": type(error).__name__, "message": error.message, "facts": facts, "notes": notes}
    name = None if error.filename is None else str(error.filename)
    return {"kind": "os_error", "errno": error.errno or 0, "message": error.strerror or str(error), "filename": name}


def decode_error(document: dict[str, Any]) -> ActserveError | OSError:
    """Return the error of a JSON message; an unknown error name becomes `UndecodableVideo`."""
    message = str(document.get("message", ""))[:10_000]
    if document["kind"] == "os_error":
        return OSError(int(document.get("errno", 0)), message, document.get("filename"))
    kind = getattr(errors, str(document.get("name")), None)
    if not (isinstance(kind, type) and issubclass(kind, ActserveError)):
        kind = UndecodableVideo
    facts = document.get("facts")
    error = kind(message, **(facts if isinstance(facts, dict) else {}))
    for note in document.get("notes") or ():
        error.add_note(str(note)[:100_000])
    return error


def set_limits(settings: DecodeSettings, *, mapped_bytes: int) -> None:
    """Set the resource limits of this process, once, before the first request."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # stops the child even if a library holds the GIL
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # killed when the fork server exits
        with contextlib.suppress(AttributeError):  # musl has no arenas
            libc.mallopt(_M_ARENA_MAX, 2)  # each arena reserves 64 MiB of address space
    _set_hard_limit(resource.RLIMIT_CORE, 0)
    _set_hard_limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _set_hard_limit(resource.RLIMIT_FSIZE, settings.max_file_bytes)
    _set_hard_limit(resource.RLIMIT_AS, mapped_bytes + settings.max_memory_bytes)


def exit_error(exitcode: int) -> ActserveError:
    """Return the error for the exit status of a child that died during a request.

    Only `SIGXCPU` and the signals of a crash come from the work on the file. Others are sent by somebody else, such as
    the kernel when the machine is out of memory, and say nothing about the file.
    """
    try:
        name = signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"
    except ValueError:
        name = f"signal {-exitcode}"
    if name == "SIGXCPU":
        return DecodeLimitExceeded("decoding needed more processor time than allowed", reason=name)
    if name not in CRASHES:
        return EngineUnavailable(
            f"a decode process was ended from outside ({name}); the machine may be out of memory; try again later"
        )
    return UndecodableVideo(f"the decoder crashed on this file ({name})", reason=name)


def _set_hard_limit(kind: int, value: int) -> None:
    """Set a limit that the process cannot raise again."""
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def extend_cpu_limit(seconds: int) -> None:
    """Set the soft CPU limit to the processor time used so far plus `seconds`, because limits apply to each job."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    value = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def read_mapped_bytes() -> int:
    """Return the size of the address space that this process has mapped."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # without /proc, use a generous estimate
        return 4 * 2**30
