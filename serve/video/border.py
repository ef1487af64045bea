"""Translation of the exceptions of decoding libraries into errors of this project.

A file may make a library raise anything: PyAV raises `ValueError` for unknown side data, `IndexError` for streams that
appear late, `UnicodeDecodeError` for names. These are faults of the file, not of the server.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import av

from serve.errors import ActserveError, DecodeLimitExceeded, DecoderFault, UndecodableVideo


@contextmanager
def translated() -> Iterator[None]:
    """Translate the exceptions of the libraries.

    `AssertionError` passes unchanged, because it is a bug of this project, and so do `OSError` and `EOFError`, which
    come from the caller's own files and pipes; FFmpeg's subclasses of them are translated.

    Raises:
        UndecodableVideo: FFmpeg rejects the data; `DecodeLimitExceeded` if memory runs out.
        DecoderFault: a library raised an unexpected exception.
    """
    try:
        yield
    except MemoryError as error:
        raise DecodeLimitExceeded("decoding needs more memory than allowed") from error
    except av.error.FFmpegError as error:
        raise UndecodableVideo(f"the video cannot be decoded: {error.strerror}") from error
    except (ActserveError, AssertionError, OSError, EOFError):
        raise
    except Exception as error:
        raise decoder_fault(error) from error


def decoder_fault(error: Exception) -> DecoderFault:
    """Return the error for an unexpected exception, with its traceback as a note for the log."""
    fault = DecoderFault(f"the decoder failed on this file ({type(error).__name__})", reason=type(error).__name__)
    fault.add_note("".join(traceback.format_exception(error)))
    return fault
