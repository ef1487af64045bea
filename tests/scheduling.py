"""Encoding AV1 without the real-time priority that SVT-AV1 gives to the thread that opens it.

Run by root, it makes that thread SCHED_FIFO with priority 99. Every process started later inherits that, servers,
browsers and Triton included, and starves whatever else the machine runs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """Give the thread its own scheduling policy back when the context ends."""
    if not hasattr(os, "sched_getscheduler"):  # macOS and Windows
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
