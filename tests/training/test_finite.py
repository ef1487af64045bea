"""NaN and infinity end a run before anything of them is measured or saved, and the same command goes on afterwards."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.running_server import ROOT
from tests.training.test_trainer import DEMO, SMALL
from training import trainer
from training.checkpoints.native_format import CheckpointError, load_checkpoint, save_checkpoint
from training.checkpoints.start import initial_model
from training.config import ConfigError, TrainConfig, load_config
from training.distributed import RankInfo
from training.finite import are_finite, non_finite_names
from training.objectives import StepBatch
from training.run_state import read_skipped_steps
from training.stopping import NonFiniteError
from training.trainer import check_batch_norms, train

NAN, INFINITY = float("nan"), float("inf")
BAD_STEP = 4  # from 1


def config_of(out: Path, *changes: str) -> TrainConfig:
    return load_config(
        DEMO, [*SMALL, f"run.out={out}", "run.steps=8", "run.save_every=2", "run.evaluate_every=3", *changes]
    )


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_any_value_that_is_not_finite_is_found(value: float, dtype: torch.dtype) -> None:
    good = torch.full((3, 4), torch.finfo(dtype).max, dtype=dtype)  # large is not infinite
    bad = good.clone()
    bad[1, 2] = value
    assert are_finite([good, torch.tensor([1]), torch.empty(0)])
    assert not are_finite([good.float(), bad.float()])
    assert not are_finite([bad])
    assert non_finite_names({"good": good, "bad": bad}) == ["bad"]


def bad_input(batch: StepBatch) -> StepBatch:
    return replace(batch, frames=batch.frames * INFINITY)


def bad_target(batch: StepBatch) -> StepBatch:
    return replace(batch, targets={name: value * NAN for name, value in batch.targets.items()})


@pytest.mark.parametrize(("spoil", "words"), [(bad_input, "the input"), (bad_target, "the loss of")])
def test_a_bad_batch_ends_the_run_and_is_left_out_afterwards(
    spoil: Callable[[StepBatch], StepBatch], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer.make_batch

    def batch_of(clips: object, indices: object, setting: object, *, step: int) -> StepBatch:
        batch = real(clips, indices, setting, step=step)  # type: ignore[arg-type]
        return spoil(batch) if step == BAD_STEP - 1 else batch

    monkeypatch.setattr(trainer, "make_batch", batch_of)
    with pytest.raises(NonFiniteError, match=rf"step {BAD_STEP} of 8: NaN or infinity in {words}.*resumes from"):
        train(config_of(tmp_path))
    kept = load_checkpoint(tmp_path / "checkpoint.pt")
    assert kept.provenance["steps"] == 2
    assert are_finite(kept.weights.values())
    assert list(read_skipped_steps(tmp_path)) == [BAD_STEP]
    after = load_checkpoint(train(config_of(tmp_path)))
    assert after.training_state["step"] == 8
    assert list(after.provenance["skipped_steps"]) == [str(BAD_STEP)]
    assert are_finite(after.weights.values())
    for name in ("best.pt", "checkpoint.pt"):
        load_checkpoint(tmp_path / name).build()


def test_the_part_that_is_not_finite_first_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module whose output overflows in the fourth step alone."""
    calls = 0

    def overflow(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        nonlocal calls
        calls += module.training and torch.is_grad_enabled()
        return output * INFINITY if calls >= BAD_STEP and module.training else None

    real = trainer.start_or_resume

    def begin(*arguments: object) -> object:
        state = real(*arguments)  # type: ignore[arg-type]
        state.model.text.ln_final.register_forward_hook(overflow)
        return state

    monkeypatch.setattr(trainer, "start_or_resume", begin)
    with pytest.raises(NonFiniteError, match=r"the loss of .*first in the output of text\.ln_final"):
        train(config_of(tmp_path))


def test_a_gradient_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trainer.start_or_resume

    def begin(*arguments: object) -> object:
        state = real(*arguments)  # type: ignore[arg-type]
        state.model.logit_scale.register_hook(lambda gradient: gradient * NAN)
        return state

    monkeypatch.setattr(trainer, "start_or_resume", begin)
    with pytest.raises(NonFiniteError, match=r"step 1 of 8: NaN or infinity in the gradient of logit_scale"):
        train(config_of(tmp_path))
    assert not (tmp_path / "checkpoint.pt").exists(), "a run that failed at once has nothing to go on from"


@pytest.mark.parametrize("clip_norm", [0, 1])
def test_weights_that_overflow_are_neither_measured_nor_saved(clip_norm: int, tmp_path: Path) -> None:
    changes = ("optim.kind=sgd", "optim.lr=1e38", "optim.schedule=cosine", f"optim.clip_norm={clip_norm}")
    with pytest.raises(NonFiniteError, match=r"step [12] of 8"):
        train(config_of(tmp_path, *changes, "run.save_every=1", "run.evaluate_every=1"))
    for path in tmp_path.glob("*.pt"):
        assert are_finite(load_checkpoint(path).weights.values())


def test_weights_that_are_not_finite_are_no_start_and_no_checkpoint(tmp_path: Path) -> None:
    first = load_checkpoint(train(config_of(tmp_path / "first", "run.steps=2")))
    name = next(name for name in first.weights if name.endswith("weight"))
    first.weights[name][0] = NAN
    with pytest.raises(CheckpointError, match=f"NaN or infinity: {name}"):
        first.build()
    before = (tmp_path / "first" / "checkpoint.pt").read_bytes()
    with pytest.raises(CheckpointError, match="is not written"):
        save_checkpoint(tmp_path / "first" / "checkpoint.pt", first)
    assert (tmp_path / "first" / "checkpoint.pt").read_bytes() == before
    document = torch.load(tmp_path / "first" / "checkpoint.pt", weights_only=True)
    for weights in (document["weights"], document["training_state"]["weights"]):
        weights[name][0] = NAN
    torch.save(document, tmp_path / "bad.pt")  # as a version without guards wrote it
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        train(config_of(tmp_path / "second", f"model.start={tmp_path / 'bad.pt'}"))
    (tmp_path / "bad.pt").replace(tmp_path / "first" / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: .*NaN or infinity"):
        train(config_of(tmp_path / "first", "run.steps=4"))


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    sets = [*SMALL, f"run.out={tmp_path}", "run.steps=8", "optim.kind=sgd", "optim.lr=1e38"]
    done = subprocess.run(
        [sys.executable, "-m", "training", "train", str(DEMO), *[word for each in sets for word in ("--set", each)]],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: step ")
    assert "Traceback" not in done.stderr
    (step,) = json.loads((tmp_path / "skipped_steps.json").read_text())
    assert f"step {step} of 8" in last
    assert f"NonFiniteError: step {step} of 8" in (tmp_path / "train.log").read_text().splitlines()[-1]


def test_a_list_of_left_out_steps_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "skipped_steps.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"skipped_steps[.]json cannot be read"):
        train(config_of(tmp_path))


@pytest.mark.parametrize("micro_batch", ["1"])
def test_micro_batches_do_not_go_with_batch_norms(micro_batch: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run.micro_batch: the model has batch norms \(visual"):
        train(config_of(tmp_path, f"run.micro_batch={micro_batch}"))
    assert initial_model(config_of(tmp_path).model)  # the whole batch at once is no micro-batch
    train(config_of(tmp_path, "run.micro_batch=2", "run.steps=1"))


def test_several_processes_of_a_cpu_do_not_go_with_batch_norms(tmp_path: Path) -> None:
    """On GPUs SyncBatchNorm gives every process the statistics of the whole batch."""
    model, config = nn.Sequential(nn.BatchNorm2d(2)), config_of(tmp_path)
    with pytest.raises(ConfigError, match=r"run.device: the model has batch norms \(0\).*SyncBatchNorm"):
        check_batch_norms(model, config, RankInfo(rank=0, world_size=2, device=torch.device("cpu")))
    check_batch_norms(model, config, RankInfo(rank=0, world_size=2, device=torch.device("cuda")))
    check_batch_norms(
        nn.Sequential(nn.LayerNorm(2)), config, RankInfo(rank=0, world_size=2, device=torch.device("cpu"))
    )
