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
from training.checkpoints.own import Checkpoint, load_checkpoint

STEPS = 24  # many more than are waited for: a busy machine notices late
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


def finish(out: Path) -> Checkpoint:
    subprocess.run(command(changes(out)), cwd=ROOT, check=True, capture_output=True, timeout=120)
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
    process = begin(tmp_path)
    wait_for_step(process, 3 + time.time_ns() % 4)  # a random step, after the first checkpoint
    process.kill()
    process.communicate()
    assert load_checkpoint(tmp_path / "checkpoint.pt").provenance["steps"] < STEPS
    assert_same(finish(tmp_path), whole)


def test_a_run_that_is_asked_to_stop_keeps_its_step(whole: Checkpoint, tmp_path: Path) -> None:
    process = begin(tmp_path)
    wait_for_step(process, 3)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on" in told
    assert 3 <= load_checkpoint(tmp_path / "checkpoint.pt").provenance["steps"] < STEPS
    assert_same(finish(tmp_path), whole)


def test_another_configuration_neither_goes_on_nor_destroys(whole: Checkpoint, tmp_path: Path) -> None:
    finish(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    refused = subprocess.run(
        command([*changes(tmp_path), "optim.lr=1"]), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 2
    assert "another configuration (optim.lr)" in refused.stderr
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    again = subprocess.run(
        command([*changes(tmp_path), "run.log_every=3"]), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert again.returncode == 0, "what changes no weight may change"
