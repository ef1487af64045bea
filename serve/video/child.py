"""What runs inside a decode child: its limits, and one job after the other.

The limits keep a hostile file from taking the machine's memory, processors or disk. They are no sandbox against code
execution inside the codec libraries: for that, run the server in a container of its own.
"""

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from serve.errors import ActserveError, DecodeLimitExceeded, UndecodableVideo
from serve.video.limits import DecodeSettings
from serve.video.views import DecodedViews, ViewRequest

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _M_ARENA_MAX = 1, 38, -8


def prepare(settings: DecodeSettings) -> None:
    """Set the limits of this process; called once, when the child starts."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends the child even while a library holds the interpreter's lock
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # no orphan goes on decoding for nobody
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        with contextlib.suppress(AttributeError):  # musl has no arenas
            libc.mallopt(_M_ARENA_MAX, 2)  # each arena reserves 64 MiB of address space
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, settings.max_file_bytes)
    _limit(resource.RLIMIT_AS, _address_space() + settings.max_memory_bytes)


def child_pid() -> int:
    """A first job: the child is there and its libraries are loaded."""
    import serve.video.decode  # noqa: F401  # loaded already where the nursery is used

    return os.getpid()


def decode_job(path: Path, request: ViewRequest, *, settings: DecodeSettings, memory: str) -> DecodedViews:
    """Decode into the shared memory of that name; the answer itself carries no views.

    Raises:
        ActserveError: the file's fault, or a `DecoderFault` for anything that is not foreseen, mistakes of this
            project included.
        OSError: the file cannot be opened, or the shared memory is not there.
    """
    from serve.video.border import decoder_fault
    from serve.video.decode import load_views

    raise_processor_limit(settings.max_cpu_seconds)
    block = SharedMemory(memory)  # the parent made it and removes it
    try:
        views = np.ndarray(request.shape, dtype=np.uint8, buffer=block.buf)
        decoded = load_views(path, request, settings=settings, out=views)
        del views
        return replace(decoded, views=np.empty(0, dtype=np.uint8))
    except MemoryError as error:
        raise DecodeLimitExceeded(
            "decoding needs more memory than allowed", limit_bytes=settings.max_memory_bytes
        ) from error
    except (ActserveError, OSError):
        raise
    except Exception as error:
        raise decoder_fault(error) from error
    finally:
        with contextlib.suppress(BufferError):  # a traceback may still hold the array; the mapping ends with it
            block.close()


def death(exitcode: int) -> UndecodableVideo:
    """Why a child died, in words."""
    try:
        name = signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"
    except ValueError:
        name = f"signal {-exitcode}"
    if name == "SIGXCPU":
        return DecodeLimitExceeded("decoding took more processor time than allowed", reason=name)
    if name == "SIGKILL":
        return DecodeLimitExceeded("the decoder was killed, as happens when it takes too much memory", reason=name)
    return UndecodableVideo(f"the decoder crashed on this file ({name})", reason=name)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, hard))


def raise_processor_limit(seconds: int) -> None:
    """The soft limit counts from the processor time used so far, so a healthy child does not die of age."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + seconds)


def _address_space() -> int:
    """Bytes this process has mapped while idle."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # no /proc: a guess that is generous
        return 4 * 2**30
