"""Translate the exceptions of decoding libraries into the errors of `serve.errors`.

An invalid file may make a library raise any exception: PyAV raises `ValueError` for unknown side data, `IndexError` for
streams that appear late and `UnicodeDecodeError` for names. They are errors of the file, not of the server.
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
# Messages of libraries without an exception class for exhaustion: Python's threads, C++, libavif, FFmpeg's log.
_EXHAUSTION_MESSAGE = re.compile(
    r"start new thread|bad_alloc|out of memory|cannot allocate|(?:could not|unable to|failed to) alloc"
    r"|alloc\w* (?:error|fail)|resource temporarily unavailable",
    re.IGNORECASE,
)


@contextmanager
def translate_library_errors() -> Iterator[None]:
    """Translate the exceptions that decoding libraries raise in the block.

    `AssertionError` is not translated, because it is a bug of this project. `OSError` and `EOFError` are not translated
    either, because they come from the caller's files and pipes; FFmpeg's subclasses of them are.

    Raises:
        DecodeLimitExceeded: memory or threads ran out, however the library reports it.
        UndecodableVideo: FFmpeg rejects the data.
        DecoderFault: a library raised an unexpected exception.
    """
    try:
        yield
    except DecodeLimitExceeded:
        raise
    except Exception as error:
        if is_exhaustion(error):
            raise resource_exhausted_error() from error
        if isinstance(error, av.error.FFmpegError):
            raise UndecodableVideo(f"the video cannot be decoded: {error.strerror}") from error
        if isinstance(error, ActserveError | AssertionError | OSError | EOFError):
            raise
        raise decoder_fault(error) from error


def is_exhaustion(error: BaseException) -> bool:
    """Return whether the exception, or one in its chain of causes, reports that memory or threads ran out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or _reports_exhaustion(cause):
            return True
        cause = cause.__cause__
    return False


def _reports_exhaustion(error: BaseException) -> bool:
    if isinstance(error, av.error.FFmpegError):
        return error.errno in _EXHAUSTION
    is_library_error = not isinstance(error, ActserveError | AssertionError | OSError)
    return is_library_error and is_exhaustion_message(str(error))


def is_exhaustion_message(message: str) -> bool:
    """Return whether a library's message reports that memory or threads ran out."""
    return _EXHAUSTION_MESSAGE.search(message) is not None


def resource_exhausted_error() -> DecodeLimitExceeded:
    """Return the error for a decoder that ran out of memory or threads."""
    return DecodeLimitExceeded("decoding needs more memory or threads than allowed")


def decoder_fault(error: Exception) -> DecoderFault:
    """Return the error for an unexpected exception, with its traceback as a note for the log."""
    fault = DecoderFault(f"the decoder failed on this file ({type(error).__name__})", reason=type(error).__name__)
    fault.add_note("".join(traceback.format_exception(error)))
    return fault
