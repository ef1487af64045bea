"""Asked to stop: SIGTERM and Ctrl-C let the step under way end and be kept; a second Ctrl-C ends at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from training.errors import WorkError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(Exception):
    """A run was asked to stop before its end; its checkpoint is kept."""

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number  # of the signal; 0 where another process got it


class NonFiniteError(WorkError):
    """A step gave NaN or infinity; the message says in which part first, and how to go on."""


class StopSignal:
    """Notes signals for as long as the context lasts; outside the main thread, where none arrive, it notes nothing."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, object] = {}

    @property
    def is_asked(self) -> bool:
        """Whether a signal came."""
        return self.number != 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
