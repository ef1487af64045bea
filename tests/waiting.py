"""Waiting in tests: for a condition, never for a time. The deadline only ends a test that would hang."""

import asyncio
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
        os.mkfifo(path)
        self._pipe: int | None = os.open(path, os.O_RDWR)  # also a reader, so that writing never fails
        self.feed()

    @property
    def is_being_read(self) -> bool:
        """Whether a process has read all bytes."""
        assert self._pipe is not None, "the video has ended"
        unread = fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4))
        return int.from_bytes(unread, sys.byteorder) == 0

    def feed(self) -> None:
        """Write one more byte, so that `is_being_read` is false until a process has read it."""
        assert self._pipe is not None, "the video has ended"
        os.write(self._pipe, b"\0")

    def end(self) -> None:
        """Close the pipe: its reader finds no video in it."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
