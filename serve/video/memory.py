"""Test whether memory is short, because libraries report a failed allocation as corrupt data.

FFmpeg's H.264 decoder returns "invalid data" if a picture cannot be allocated, and a lenient decoder would conceal the
lost pictures: an intact video would be answered as corrupt, or with the wrong frames.
"""

import mmap

_BYTES_PER_PIXEL = 8  # a picture with four samples of 16 bits
_OVERHEAD_BYTES = 8 * 2**20  # tables and thread stacks


def is_memory_short(width: int, height: int) -> bool:
    """Return whether no further picture of this size could be allocated now."""
    try:
        mmap.mmap(-1, _BYTES_PER_PIXEL * width * height + _OVERHEAD_BYTES).close()
    except (OSError, OverflowError):
        return True
    return False
