"""A run that is killed or asked to stop goes on bit for bit: processes of their own, real signals."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.running_server import ROOT
from tests.training.test_trainer import DEMO, SMALL
from training.checkpoints.native_format import Checkpoint, load_checkpoint

STEPS = 24
ATTEMPTS = 20  # a run may end before the signal reaches it; then another is begun
DROPOUT = "model.model.fusion={kind: Transf_cls, layers: 1, heads: 2}"  # its encoder drops: streams must go on too


def command(changes: Sequence[str]) -> list[str]:
    sets = [word for change in changes for word in ("--set", change)]
    return [sys.executable, "-m", "training", "train", str(DEMO), *sets]


def changes(out: Path) -> list[str]:
    return [*SMALL, DROPOUT, f"run.out={out}", f"run.steps={STEPS}", "run.save_every=2", "run.log_every=1"]


def begin(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(changes(out)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if f"step {step}/{STEPS}" in line:
            return
    raise AssertionError(f"the run ended before step {step}")


def interrupted(folder: Path, signal_number: signal.Signals, step: int) -> tuple[Path, str]:
    """Folder and output of a run that got a signal after a step and before its end."""
    for attempt in range(ATTEMPTS):
        out = folder / str(attempt)
        process = begin(out)
        wait_for_step(process, step)
        process.send_signal(signal_number)
        printed, _ = process.communicate()
        kept = load_checkpoint(out / "checkpoint.pt").provenance["steps"]
        if process.returncode == 0 and kept == STEPS:
            continue
        expected = -signal.SIGKILL if signal_number == signal.SIGKILL else 128 + signal_number
        assert process.returncode == expected
        assert step - 2 <= kept <= STEPS
        return out, printed
    raise AssertionError(f"{ATTEMPTS} runs ended before the signal reached them")


def finish(out: Path) -> Checkpoint:
    subprocess.run(command(changes(out)), cwd=ROOT, check=True, capture_output=True)
    return load_checkpoint(out / "checkpoint.pt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return finish(tmp_path_factory.mktemp("whole"))


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert one.provenance["steps"] == other.provenance["steps"] == STEPS
    for name, value in one.weights.items():
        assert torch.equal(value, other.weights[name]), name
    for name, value in one.training_state["weights"].items():
        assert torch.equal(value, other.training_state["weights"][name]), name


def test_a_killed_run_goes_on_bit_for_bit(whole: Checkpoint, tmp_path: Path) -> None:
    out, _ = interrupted(tmp_path, signal.SIGKILL, 3 + time.time_ns() % 4)  # a random step, after the first checkpoint
    assert_same(finish(out), whole)


def test_a_run_that_is_asked_to_stop_keeps_its_step(whole: Checkpoint, tmp_path: Path) -> None:
    out, printed = interrupted(tmp_path, signal.SIGTERM, 3)
    assert "the same command resumes" in printed
    assert_same(finish(out), whole)


def test_another_configuration_neither_goes_on_nor_destroys(whole: Checkpoint, tmp_path: Path) -> None:
    finish(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    refused = subprocess.run(command([*changes(tmp_path), "optim.lr=1"]), cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "a different configuration (optim.lr)" in refused.stderr
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    again = subprocess.run(command([*changes(tmp_path), "run.log_every=3"]), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, "what changes no weight may change"
