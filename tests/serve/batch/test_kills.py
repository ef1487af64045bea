"""A run that is killed with SIGKILL and continued: `tests.bench.batch_bench` in short."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.batch_bench import LABELS, Tally, command, commits, count, kill_when, make_inputs
from tests.running_server import ROOT

INPUTS = 30


def test_a_killed_run_loses_nothing_and_repeats_nothing(
    run: Callable[..., tuple[int, dict[str, Any], str]], demo_clip: Path, tmp_path: Path
) -> None:
    archive, out = make_inputs(tmp_path / "archive", demo_clip, INPUTS), tmp_path / "out"
    process = subprocess.Popen(
        command(archive, out), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert kill_when(process, out, 3)
    before = commits(out)
    assert 3 <= len(before) < INPUTS
    words = ("--labels", LABELS, "--format", "both", "--part-size", 1)
    status, counts, _ = run(archive, "--out", out, *words)
    assert (status, counts["total"]) == (1, INPUTS)
    tally = Tally()
    count(tally, out, before, counts, INPUTS)
    assert (tally.inputs, tally.lost, tally.repeated) == (INPUTS, 0, 0)
