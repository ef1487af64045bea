"""The file to decode: a path, or a descriptor that the parent opened, because an isolated child cannot open files."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal


class DescriptorFile:
    """An open file with the methods of `Path` that the decoders use; it does not own the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """Return a stream that starts at the first byte; several streams do not affect each other."""
        assert mode == "rb", "a video is opened for reading only"
        return io.BufferedReader(_DescriptorReader(self._descriptor))

    def stat(self) -> os.stat_result:
        """Return the status of the file."""
        return os.fstat(self._descriptor)


VideoFile = Path | DescriptorFile


class _DescriptorReader(io.RawIOBase):
    """Reads a descriptor at a position of its own; a pipe, which has no positions, is read in order."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0
        try:
            os.lseek(descriptor, 0, os.SEEK_CUR)
            self._is_seekable = True
        except OSError:
            self._is_seekable = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return whether the descriptor has positions."""
        return self._is_seekable

    def readinto(self, buffer: Any) -> int:
        """Read at most as many bytes as the buffer has; return how many were read."""
        if self._is_seekable:
            count = os.preadv(self._descriptor, [buffer], self._position)
        else:
            count = os.readv(self._descriptor, [buffer])
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position.

        Raises:
            OSError: the descriptor is a pipe, or the position is negative.
        """
        if not self._is_seekable:
            raise io.UnsupportedOperation("a pipe has no positions")
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}
        start = starts[whence] if whence in starts else os.fstat(self._descriptor).st_size
        if start + offset < 0:
            raise OSError(f"cannot seek to the negative position {start + offset}")
        self._position = start + offset
        return self._position


@contextmanager
def open_for_child(path: Path) -> Iterator[int]:
    """Open a file for reading and yield the descriptor to send to a child; it is closed at the end of the block.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without a writer must not block
    try:
        os.set_blocking(descriptor, True)
        yield descriptor
    finally:
        os.close(descriptor)
