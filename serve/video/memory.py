"""Detect a shortage of memory, because libraries report a failed allocation as corrupt data.

FFmpeg's H.264 decoder returns "invalid data" if a picture cannot be allocated, and a lenient decoder would conceal the
lost picture. An intact video would then be reported as corrupt, or decoded to wrong frames.
"""

import mmap

_BYTES_PER_PIXEL = 8  # four samples of 16 bits
_OVERHEAD_BYTES = 8 * 2**20  # for tables and thread stacks


def is_memory_short(width: int, height: int) -> bool:
    """Return whether there is too little memory to allocate another picture of this size."""
    try:
        mmap.mmap(-1, _BYTES_PER_PIXEL * width * height + _OVERHEAD_BYTES).close()
    except (OSError, OverflowError):
        return True
    return False
