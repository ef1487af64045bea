"""The short form of the container fuzzer: a few dozen rewrites, every sampled frame compared."""

from pathlib import Path

from tests.fuzz.rewrites import run


def test_rewritten_clips_give_the_frames_of_full_decoding(tmp_path: Path) -> None:
    totals = run(60, seed=20261125, folder=tmp_path)
    assert totals.faults == []
    assert {"planned", "in order"} <= totals.by_outcome().keys()
    assert totals.cells.total() == 60
