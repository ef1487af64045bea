"""`best.pt` holds the weights that were measured as the best, whatever the periods of saving and evaluating are."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.test_trainer import DEMO, SMALL
from training import run_state, trainer
from training.checkpoints.native_format import Checkpoint, load_checkpoint, save_checkpoint
from training.config import ConfigError, TrainConfig, load_config
from training.demo import source
from training.models.adapters import merge_adapters
from training.models.base import VideoTextModel
from training.monitor import EvaluationReport
from training.stopping import StoppedError, StopSignal
from training.trainer import train

STEPS = 12
SCORES = (0.3, 0.6, 0.5, 0.9, 0.2, 0.9, 0.7, 0.1, 0.4, 0.8, 0.2, 0.6)  # of the evaluations in turn; 0.9 comes twice


def config_of(out: Path, *changes: str) -> TrainConfig:
    return load_config(DEMO, [*SMALL, f"run.out={out}", f"run.steps={STEPS}", "optim.ema=0", *changes])


class Scorer:
    """Replaces the source's evaluation: a score by the weights, which it remembers; the same weights score the same."""

    def __init__(self) -> None:
        self.measured: list[tuple[float, dict[str, Tensor]]] = []

    def __call__(self, source: object, model: VideoTextModel) -> EvaluationReport:
        weights = {name: value.clone() for name, value in merge_adapters(model).items()}
        known = [score for score, seen in self.measured if same(seen, weights)]
        score = known[0] if known else SCORES[len(self.measured) % len(SCORES)]
        if not known:
            self.measured.append((score, weights))
        return EvaluationReport(metrics={"top1": score})

    @property
    def best(self) -> tuple[float, dict[str, Tensor]]:
        return max(self.measured, key=lambda pair: pair[0])  # the first of equal ones


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> Scorer:
    found = Scorer()
    monkeypatch.setattr(source.DemoSource, "measure", lambda self, model: found(self, model))
    monkeypatch.setattr(source.DemoSource, "card", lambda self, history, **facts: "")
    return found


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def best_of(out: Path) -> Checkpoint:
    return load_checkpoint(out / "best.pt")


@pytest.mark.parametrize("ema", ["0", "0.5"], ids=["weights", "average"])
@pytest.mark.parametrize(
    ("save_every", "evaluate_every"), [(1, 1), (5, 2), (2, 5), (7, 3), (100, 4), (3, 100), (100, 100), (4, 4)]
)
def test_the_best_checkpoint_is_the_one_that_was_measured(
    save_every: int, evaluate_every: int, ema: str, tmp_path: Path, scorer: Scorer
) -> None:
    changes = (f"run.save_every={save_every}", f"run.evaluate_every={evaluate_every}", f"optim.ema={ema}")
    train(config_of(tmp_path, *changes))
    best = best_of(tmp_path)
    score, weights = scorer.best
    assert same(best.weights, weights)
    assert best.provenance["history"][-1] == {"step": best.provenance["steps"], "top1": score}
    evaluations = [json.loads(line)["top1"] for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert score == max(evaluations)


@pytest.mark.parametrize("stopped_at", range(1, STEPS))
@pytest.mark.parametrize(("save_every", "evaluate_every"), [(5, 2), (2, 3), (100, 4)])
def test_a_resumed_run_has_the_same_best_checkpoint(
    save_every: int,
    evaluate_every: int,
    stopped_at: int,
    tmp_path: Path,
    scorer: Scorer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped by a power loss after any step: only files that were written count."""
    config = config_of(tmp_path, f"run.save_every={save_every}", f"run.evaluate_every={evaluate_every}")
    real_step, count = trainer.take_step, 0

    def step(*arguments: object) -> object:
        nonlocal count
        if count == stopped_at:
            raise KeyboardInterrupt
        count += 1
        return real_step(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "take_step", step)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    train(config)
    assert same(best_of(tmp_path).weights, scorer.best[1])


def test_a_run_asked_to_stop_between_an_evaluation_and_a_save_keeps_both(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, "run.save_every=100", "run.evaluate_every=4")
    monkeypatch.setattr(StopSignal, "is_requested", property(lambda self: len(scorer.measured) == 1))
    with pytest.raises(StoppedError):
        train(config)
    assert load_checkpoint(tmp_path / "checkpoint.pt").provenance["steps"] == 4
    assert same(best_of(tmp_path).weights, scorer.best[1])


def test_a_best_checkpoint_that_was_never_measured_is_replaced(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier versions wrote `best.pt` at the next save, with the weights of that step."""
    train(config_of(tmp_path, "run.save_every=5", "run.evaluate_every=4"))
    best = best_of(tmp_path)
    save_checkpoint(
        tmp_path / "best.pt",
        run_state.replace(best, provenance={**best.provenance, "steps": 5, "history": [{"step": 4}]}),
    )
    train(config_of(tmp_path, "run.save_every=5", "run.evaluate_every=4", "run.steps=14"))
    assert "the next evaluation replaces the file" in caplog.text
    assert best_of(tmp_path).provenance["steps"] > STEPS


def test_a_run_can_be_extended_and_not_shortened(tmp_path: Path, scorer: Scorer) -> None:
    train(config_of(tmp_path, "run.steps=4"))
    with pytest.raises(ConfigError, match=r"run.steps.*can be increased, but not decreased"):
        train(config_of(tmp_path, "run.steps=3"))
    with pytest.raises(ConfigError, match=r"optim[.]lr"):
        train(config_of(tmp_path, "run.steps=8", "optim.lr=1"))
    extended = load_checkpoint(train(config_of(tmp_path, "run.steps=8")))
    assert extended.training_state["step"] == 8
    log = (tmp_path / "train.log").read_text()
    assert "step 4/4" in log and "step 8/8" in log, "a run that goes on has one log"
    assert [item["step"] for item in extended.provenance["history"]] == [4, 8]
    assert load_checkpoint(train(config_of(tmp_path, "run.steps=8"))).training_state["step"] == 8
