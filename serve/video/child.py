"""Code of a decode child: set limits, then run one job after the other until the parent is gone.

The limits keep a hostile file from exhausting memory, processors or disk. They are not a sandbox against code execution
in the codec libraries; for that, run the server in a separate container.

A job is a function `module:name` that takes a `Job` and keyword arguments and returns a JSON value. Errors are sent as
JSON too, so that a compromised child cannot make its parent execute code.
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
from serve.errors import ActserveError, DecodeLimitExceeded, UndecodableVideo
from serve.video.channel import Channel, ChannelClosed, receive_json, send_json
from serve.video.limits import DecodeSettings

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _M_ARENA_MAX = 1, 38, -8


@dataclass(frozen=True)
class Job:
    """One request of the parent, passed to the function of the job."""

    channel: Channel
    settings: DecodeSettings
    descriptors: list[int]  # received with the request

    def shared_array(self, shape: tuple[int, ...]) -> UInt8Array:
        """Map the shared memory that the parent sent, as a writable array."""
        block = mmap.mmap(self.descriptors[0], math.prod(shape))
        return np.frombuffer(block, dtype=np.uint8).reshape(shape)

    def send_array(self, array: UInt8Array) -> None:
        """Send one array to the parent; arrays arrive in order."""
        flat = np.ascontiguousarray(array)
        send_json(self.channel, {"kind": "array", "shape": list(array.shape)}, flat.reshape(-1))

    def send_part(self, value: dict[str, Any]) -> None:
        """Send one part of the result, with rows in the shared memory, and wait until the parent has taken it."""
        send_json(self.channel, {"kind": "part", "value": value})
        receive_json(self.channel)

    def choose(self, num_frames: int) -> Int64Array:
        """Ask the parent which of `num_frames` frames it wants."""
        send_json(self.channel, {"kind": "choose", "num_frames": num_frames})
        document, _, _ = receive_json(self.channel)
        return np.asarray(document["indices"], dtype=np.int64)


def serve(channel: Channel) -> None:
    """Set the limits, then answer requests until the parent closes the channel."""
    with contextlib.suppress(ChannelClosed):
        settings: DecodeSettings = pickle.loads(channel.receive()[0])  # noqa: S301  # from the parent
        prepare(settings)
        send_json(channel, {"kind": "ready"})
        while True:
            header, _, descriptors = channel.receive()
            name, arguments = pickle.loads(header)  # noqa: S301  # from the parent
            send_json(channel, {"kind": "started"})  # a child that dies before this is not killed by the file
            try:
                send_json(channel, _answer(Job(channel, settings, descriptors), name, arguments))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)


def _answer(job: Job, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run one job; return its result or its error as a message."""
    from serve.video.border import decoder_fault, exhausted, is_exhaustion

    raise_processor_limit(job.settings.max_cpu_seconds)
    try:
        module, _, function = name.partition(":")
        return {"kind": "done", "value": getattr(importlib.import_module(module), function)(job, **arguments)}
    except ChannelClosed:
        raise
    except DecodeLimitExceeded as error:
        return error_document(_with_limit(error, job.settings))
    except (ActserveError, OSError) as error:
        return error_document(error)
    except Exception as error:
        is_limit = is_exhaustion(error)
        return error_document(_with_limit(exhausted(), job.settings) if is_limit else decoder_fault(error))


def _with_limit(error: DecodeLimitExceeded, settings: DecodeSettings) -> DecodeLimitExceeded:
    error.details.setdefault("limit_bytes", settings.max_memory_bytes)
    return error


def choice(indices: Int64Array) -> bytes:
    """Encode the parent's answer to `Job.choose` as a header."""
    return json.dumps({"indices": np.asarray(indices).tolist()}).encode()


def error_document(error: ActserveError | OSError) -> dict[str, Any]:
    """Encode an error as a JSON message."""
    if isinstance(error, ActserveError):
        facts = json.loads(json.dumps(error.details, default=str))
        notes = list(getattr(error, "__notes__", ()))
        return {"kind": "error", "name": type(error).__name__, "message": error.message, "facts": facts, "notes": notes}
    shown = None if error.filename is None else str(error.filename)
    return {"kind": "os_error", "errno": error.errno or 0, "message": error.strerror or str(error), "filename": shown}


def error_from(document: dict[str, Any]) -> ActserveError | OSError:
    """Decode the error of a JSON message; an unknown name becomes `UndecodableVideo`."""
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


def prepare(settings: DecodeSettings) -> None:
    """Set the limits of this process, once, before it opens a file."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends the child even if a library holds the GIL
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # when the fork server ends, which ends with its owner
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        with contextlib.suppress(AttributeError):  # musl has no arenas
            libc.mallopt(_M_ARENA_MAX, 2)  # each arena reserves 64 MiB of address space
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, settings.max_file_bytes)
    _limit(resource.RLIMIT_AS, address_space() + settings.max_memory_bytes)


def death(exitcode: int) -> UndecodableVideo:
    """Return the error for the exit status of a child that died."""
    try:
        name = signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"
    except ValueError:
        name = f"signal {-exitcode}"
    if name == "SIGXCPU":
        return DecodeLimitExceeded("decoding needed more processor time than allowed", reason=name)
    if name == "SIGKILL":
        return DecodeLimitExceeded("the decoder was killed, probably because it needed too much memory", reason=name)
    return UndecodableVideo(f"the decoder crashed on this file ({name})", reason=name)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, hard))


def raise_processor_limit(seconds: int) -> None:
    """Set the soft limit to the processor time used so far plus `seconds`, so that the limit is per job."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + seconds)


def address_space() -> int:
    """Return the bytes that this idle process has mapped."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # no /proc: a generous guess
        return 4 * 2**30
