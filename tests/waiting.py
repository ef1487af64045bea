"""Waiting in tests: for a condition, never for a time. The deadline only ends a test that would hang."""

import asyncio
import errno
import fcntl
import os
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_SECONDS = 300.0  # far beyond what a busy machine of one core needs; no test passes or fails by it


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether a condition becomes true; asked again and again until it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


async def until(
    condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS, *, pause_seconds: float = 0.001
) -> None:
    """Let the event loop go on until a condition is true; without pause, no turn of the loop passes unseen.

    Raises:
        TimeoutError: it never became true.
    """
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(pause_seconds)


class EndlessVideo:
    """A video without an end: a named pipe that is open for writing while nothing is written.

    Whatever reads it waits for ever, on a fast machine as on a slow one, until it is killed or `end` is called.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: int | None = None
        os.mkfifo(path)

    @property
    def is_being_read(self) -> bool:
        """Whether a process has read its first byte."""
        if self._writer is None:
            try:
                self._writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # no reader yet
                    raise
                return False
            os.write(self._writer, b"\0")
        unread = fcntl.ioctl(self._writer, termios.FIONREAD, bytes(4))
        return int.from_bytes(unread, sys.byteorder) == 0

    def end(self) -> None:
        """Close the pipe: its reader finds a file of one byte."""
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None
