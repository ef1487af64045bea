"""Graceful stop: on SIGTERM or Ctrl-C, the run finishes the current step and saves its state.

A second Ctrl-C ends the run immediately.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from training.errors import WorkError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(Exception):
    """The run received a stop signal before its last step, and saved its checkpoint."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number  # 0 if another process received the signal


class NonFiniteError(WorkError):
    """A step produced NaN or infinity; the message says in which part it appeared first, and how to continue."""


class StopSignal:
    """Records stop signals while its context is active.

    Outside the main thread it does nothing, because Python delivers signals only to the main thread.
    """

    def __init__(self) -> None:
        self.signal_number = 0  # 0: no signal was received
        self._previous_handlers: dict[signal.Signals, object] = {}

    @property
    def is_requested(self) -> bool:
        """Return whether a signal was received."""
        return self.signal_number != 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers = {number: signal.signal(number, self._record) for number in SIGNALS}
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _record(self, signal_number: int, frame: FrameType | None) -> None:
        if self.is_requested and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = signal_number
