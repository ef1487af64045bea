"""No encoder of the tests leaves a real-time priority behind."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic_heif import make_heif

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling policies on this platform")


def test_an_av1_encoder_leaves_the_priority_as_it_was(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    make_heif(tmp_path / "still.avif", [np.zeros((64, 64, 3), np.uint8)], codec="av01")
    assert os.sched_getscheduler(0) == before
