"""Translation of the exceptions of decoding libraries into errors of this project.

A file may make a library raise anything: PyAV raises `ValueError` for unknown side data, `IndexError` for streams that
appear late, `UnicodeDecodeError` for names. These are faults of the file, not of the server.
"""

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import av

from serve.errors import ActserveError, DecodeLimitExceeded, DecoderFault, UndecodableVideo

# FFmpeg reports a thread that cannot be created, or a frame that a filter lost, as EAGAIN; memory is often the cause.
_EXHAUSTION = frozenset({errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS})
# Messages of libraries that have no exception for it: Python's threads, C++, libavif, FFmpeg's log.
_EXHAUSTION_MESSAGE = re.compile(
    r"start new thread|bad_alloc|out of memory|cannot allocate|(?:could not|unable to|failed to) alloc"
    r"|alloc\w* (?:error|fail)|resource temporarily unavailable",
    re.IGNORECASE,
)


@contextmanager
def translated() -> Iterator[None]:
    """Translate the exceptions of the libraries.

    `AssertionError` passes unchanged, because it is a bug of this project, and so do `OSError` and `EOFError`, which
    come from the caller's own files and pipes; FFmpeg's subclasses of them are translated.

    Raises:
        DecodeLimitExceeded: memory or threads run out, however the library reports it.
        UndecodableVideo: FFmpeg rejects the data.
        DecoderFault: a library raised an unexpected exception.
    """
    try:
        yield
    except DecodeLimitExceeded:
        raise
    except Exception as error:
        if is_exhaustion(error):
            raise exhausted() from error
        if isinstance(error, av.error.FFmpegError):
            raise UndecodableVideo(f"the video cannot be decoded: {error.strerror}") from error
        if isinstance(error, ActserveError | AssertionError | OSError | EOFError):
            raise
        raise decoder_fault(error) from error


def is_exhaustion(error: BaseException) -> bool:
    """Return whether memory or threads ran out: this exception, or one that it was raised from, says so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or _says_exhaustion(cause):
            return True
        cause = cause.__cause__
    return False


def _says_exhaustion(error: BaseException) -> bool:
    if isinstance(error, av.error.FFmpegError):
        return error.errno in _EXHAUSTION
    is_of_library = not isinstance(error, ActserveError | AssertionError | OSError)
    return is_of_library and is_exhaustion_message(str(error))


def is_exhaustion_message(message: str) -> bool:
    """Return whether a library's message says that memory or threads ran out."""
    return _EXHAUSTION_MESSAGE.search(message) is not None


def exhausted() -> DecodeLimitExceeded:
    """Return the error for memory or threads that ran out."""
    return DecodeLimitExceeded("decoding needs more memory or threads than allowed")


def decoder_fault(error: Exception) -> DecoderFault:
    """Return the error for an unexpected exception, with its traceback as a note for the log."""
    fault = DecoderFault(f"the decoder failed on this file ({type(error).__name__})", reason=type(error).__name__)
    fault.add_note("".join(traceback.format_exception(error)))
    return fault
