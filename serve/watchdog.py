"""A watchdog of the event loop: logs and counts stalls, during which no request makes progress."""

import asyncio
import logging
import sys
import threading
import time
import traceback

from prometheus_client import Histogram

logger = logging.getLogger(__name__)

STALL_SECONDS = 0.1
INTERVAL_SECONDS = 0.1


class LoopWatchdog:
    """Asks the running event loop from a thread to run a callback, and measures how long that takes."""

    def __init__(self, stalls: Histogram) -> None:
        """Stalls are observed in `stalls`, in seconds."""
        self._stalls = stalls
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(INTERVAL_SECONDS):
            responded = threading.Event()
            asked_at = time.perf_counter()
            try:
                self._loop.call_soon_threadsafe(responded.set)
            except RuntimeError:  # the loop is closed
                return
            if responded.wait(STALL_SECONDS):
                continue
            place = self._describe_place()
            while not responded.wait(STALL_SECONDS) and not self._stopped.is_set():
                pass
            seconds = time.perf_counter() - asked_at
            self._stalls.observe(seconds)
            logger.warning("the event loop was stalled for %.0f ms; after %.0f ms it was at %s",
                           1000 * seconds, 1000 * STALL_SECONDS, place)  # fmt: skip

    def _describe_place(self) -> str:
        """Return the innermost functions that the thread of the loop runs, outermost first."""
        frame = sys._current_frames().get(self._loop_thread)
        calls = traceback.extract_stack(frame)[-3:] if frame is not None else []
        return " > ".join(f"{call.name} ({call.filename.rpartition('/')[2]}:{call.lineno})" for call in calls)
