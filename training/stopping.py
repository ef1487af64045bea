"""Graceful stop: on SIGTERM or Ctrl-C the current step ends and the run is saved; a second Ctrl-C ends at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from training.errors import WorkError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(Exception):
    """The run received a stop signal before its end and saved its checkpoint."""

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number  # of the signal; 0 if another process received it


class NonFiniteError(WorkError):
    """A step produced NaN or infinity; the message says in which part first, and how to continue."""


class StopSignal:
    """Records stop signals within its context; outside the main thread, which receives no signals, it does nothing."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, object] = {}

    @property
    def is_requested(self) -> bool:
        """Return whether a signal was received."""
        return self.number != 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
