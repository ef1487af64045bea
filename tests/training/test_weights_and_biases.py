"""Runs report to Weights & Biases: what is sent, one line where it is not installed, and the real library offline."""

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.training.test_trainer import DEMO, SMALL
from training.__main__ import main
from training.config import ConfigError, TrainConfig, as_dict, changed_keys, load_config
from training.trainer import train

PROJECT = "waving"


def config(out: Path, steps: int = 4) -> TrainConfig:
    changes = [f"run.out={out}", f"run.steps={steps}", "run.log_every=1", f"run.wandb={PROJECT}"]
    return load_config(DEMO, [*SMALL, *changes])


class Service:
    """Stands in for W&B's library and service: keeps runs by their id."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.points: dict[str, list[Mapping[str, float]]] = {}
        self.ends: list[int] = []
        self.refusal: Exception | None = None

    def module(self) -> ModuleType:
        """Return it as the module `wandb`."""
        made = ModuleType("wandb")
        made.__spec__ = ModuleSpec("wandb", None)
        made.errors = ModuleType("wandb.errors")  # type: ignore[attr-defined]
        made.errors.Error = RuntimeError  # type: ignore[attr-defined]
        made.init = self._init  # type: ignore[attr-defined]
        return made

    def _init(self, **options: Any) -> "Service":
        if self.refusal is not None:
            raise self.refusal
        self.starts.append(options)
        self.points.setdefault(options["id"], [])
        return self

    def define_metric(self, name: str, *, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "step")

    def log(self, values: Mapping[str, float]) -> None:
        self.points[self.starts[-1]["id"]].append(values)

    def finish(self, *, exit_code: int) -> None:
        self.ends.append(exit_code)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()
    monkeypatch.setitem(sys.modules, "wandb", made.module())
    return made


def test_steps_and_evaluations_are_reported_and_a_resumed_run_is_the_same_run(service: Service, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(config(out))
    train(config(out, steps=6))
    assert [start["project"] for start in service.starts] == [PROJECT, PROJECT]
    assert {start["resume"] for start in service.starts} == {"allow"} and service.ends == [0, 0]
    assert service.starts[1]["config"]["run"]["steps"] == 6
    (points,) = service.points.values()  # one id
    losses = [point["step"] for point in points if "loss/label" in point]
    assert losses == [1, 2, 3, 4, 5, 6]
    measured = [point for point in points if "evaluation/seen" in point]
    assert [point["step"] for point in measured] == [4, 6]
    assert measured[0]["evaluation/counts/seen"] == 96
    assert measured[0]["evaluation/intervals/seen/0"] <= measured[0]["evaluation/seen"]
    assert {"rate/0", "speed/clips_per_second"} <= {name for point in points for name in point}


def test_a_run_that_fails_is_reported_as_failed(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.trainer.train_steps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(config(tmp_path))
    assert service.ends == [1]


def test_a_refusal_of_the_service_ends_the_run_before_its_first_step(service: Service, tmp_path: Path) -> None:
    service.refusal = RuntimeError("api_key not configured (no-tty)")
    with pytest.raises(ConfigError, match=r"run.wandb=waving: api_key not configured"):
        train(config(tmp_path))
    assert not (tmp_path / "checkpoint.pt").exists()


def test_no_project_means_no_report(service: Service, tmp_path: Path) -> None:
    train(load_config(DEMO, [*SMALL, f"run.out={tmp_path}", "run.steps=1"]))
    assert service.starts == []


def test_without_the_extra_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    changes = [word for change in [*SMALL, f"run.out={tmp_path / 'run'}", "run.steps=1"] for word in ("--set", change)]
    with pytest.raises(SystemExit) as stop:
        main(["train", str(DEMO), *changes, "--set", f"run.wandb={PROJECT}"])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert line == "error: run.wandb needs the extra 'wandb' (wandb not installed): pip install 'actserve[wandb]'"
    assert not (tmp_path / "run").exists()


def test_a_run_may_be_resumed_with_another_project(tmp_path: Path) -> None:
    one, other = (as_dict(load_config(DEMO, [*SMALL, f"run.wandb='{project}'"])) for project in ("", PROJECT))
    assert changed_keys(one, other) == ["run.wandb"]
    train(load_config(DEMO, [*SMALL, f"run.out={tmp_path}", "run.steps=1"]))
    train(load_config(DEMO, [*SMALL, f"run.out={tmp_path}", "run.steps=1", "run.wandb=''"]))


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="the extra 'wandb' is not installed")
def test_the_real_library_writes_a_run_offline(tmp_path: Path) -> None:
    """In a process of its own: the library wraps the standard streams."""
    changes = [*SMALL, f"run.out={tmp_path / 'run'}", "run.steps=2", "run.log_every=1", f"run.wandb={PROJECT}"]
    command = [sys.executable, "-m", "training", "train", str(DEMO)]
    command += [word for change in changes for word in ("--set", change)]
    environment = {"WANDB_MODE": "offline", "HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=DEMO.parents[2])
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = written.read_bytes()
    for name in (b"loss/label", b"evaluation/seen", b"waving"):
        assert name in content
