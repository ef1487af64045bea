"""What the tests do when the Triton core crashes."""

import os
import signal

import pytest

from tests.triton.core import TritonCore, needs_triton
from tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = [pytest.mark.triton, needs_triton()]
crashed: list[TritonCore] = []
crashed_elsewhere: list[TritonCore] = []


def test_a_crash_ends_the_test_at_once_which_is_repeated_with_a_new_server(core: TritonCore) -> None:
    if not crashed:
        crashed.append(core)
        os.kill(core.process.pid, signal.SIGABRT)
        eventually(lambda: False, PATIENCE_SECONDS)
    assert crashed == [crashed[0]] and core is not crashed[0] and core.process.poll() is None


def test_what_a_client_sees_of_a_crash_is_reported_as_the_crash(core: TritonCore) -> None:
    if not crashed_elsewhere:
        crashed_elsewhere.append(core)
        os.kill(core.process.pid, signal.SIGBUS)
        raise ConnectionResetError("the peer is gone")
    assert core is not crashed_elsewhere[0] and core.process.poll() is None
