"""The border of decoding: what the libraries raise becomes an error of this project.

A file may make a library raise anything: PyAV fails with `ValueError` on side data it does not know, with `IndexError`
on streams that appear late, with `UnicodeDecodeError` on names. None of that is the server's failure.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import av

from serve.errors import ActserveError, DecodeLimitExceeded, DecoderFault, UndecodableVideo


@contextmanager
def translated() -> Iterator[None]:
    """Translate the exceptions of the libraries.

    `AssertionError` passes, because it is a mistake of this project, and so do `OSError` and `EOFError`, which are
    those of the caller's own files and pipes; FFmpeg's are translated.

    Raises:
        UndecodableVideo: FFmpeg refuses the data; `DecodeLimitExceeded` when memory runs out.
        DecoderFault: a library failed in a way that is not foreseen.
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
    """The fault to raise from an exception that is not foreseen; its traceback goes along as a note, for the log."""
    fault = DecoderFault(f"the decoder failed on this file ({type(error).__name__})", reason=type(error).__name__)
    fault.add_note("".join(traceback.format_exception(error)))
    return fault
