"""The state of a run, and its files: `checkpoint.pt` to resume the run, and `best.pt` with the best weights.

Each file is replaced atomically. `checkpoint.pt` includes the optimiser. `best.pt` is written, without the optimiser,
when an evaluation finds a new best metric, and contains exactly the evaluated weights. With weight averaging, a model
that is loaded from either file has the averaged weights.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from serve.files import write_atomically
from training.checkpoints.native_format import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    require_finite,
    save_checkpoint,
)
from training.checkpoints.start import initial_model
from training.config import NEUTRAL_KEYS, ConfigError, TrainConfig, as_dict, as_yaml, changed_keys, with_defaults
from training.data.clips.rules import make_preprocess_contract, make_sampling_contract
from training.distributed import RankInfo, barrier
from training.models.adapters import merge_adapters
from training.models.base import VideoTextModel
from training.optimisers import make_optimiser
from training.prompting import make_scoring_contract, make_text_contract
from training.sources.registry import Source

logger = logging.getLogger(__name__)

CHECKPOINT_NAME, BEST_NAME = "checkpoint.pt", "best.pt"
CONFIG_NAME, SKIPPED_STEPS_NAME = "config.yaml", "skipped_steps.json"
SELECTION_METRICS = ("top1", "held_out")  # the best weights are those with the highest value of the first one reported
LENGTH_KEYS = ("run.steps", "run.epochs")  # may be increased when a run is resumed


@dataclass
class RunState:
    """The state of a run after some steps."""

    path: Path  # of `checkpoint.pt`
    model: VideoTextModel
    average: AveragedModel | None  # exponential moving average of the weights
    optimiser: torch.optim.Optimizer
    step: int = 0  # number of completed steps
    seconds: float = 0.0  # duration of all steps
    history: list[dict[str, Any]] = field(default_factory=list)  # metrics of each evaluation
    best: float | None = None  # metric of the weights in `best.pt`
    skipped: dict[int, str] = field(default_factory=dict)  # step (from 1) -> part that was not finite

    @property
    def evaluated_model(self) -> VideoTextModel:
        """Return the model to evaluate and export: with the averaged weights, if they are averaged."""
        return self.model if self.average is None else cast(VideoTextModel, self.average.module)

    def record_evaluation(self, metrics: dict[str, Any]) -> bool:
        """Add the metrics to the history; return whether they are better than those of `best.pt`."""
        self.history.append(metrics)
        value = _selection_metric(metrics)
        if value is None or (self.best is not None and value <= self.best):
            return False
        self.best = value
        return True

    def skip_step(self) -> None:
        """Count a step without changing the weights."""
        self.step += 1
        if self.average is not None:
            self.average.n_averaged += 1


def start_or_resume(config: TrainConfig, rank_info: RankInfo) -> RunState:
    """Return a new state, or the state in `checkpoint.pt` if the folder of the run contains it.

    Raises:
        ConfigError: the folder contains a run with a different configuration.
        CheckpointError: the initial weights cannot be read or are not finite.
    """
    path = Path(config.run.out) / CHECKPOINT_NAME
    model = initial_model(config.model).to(rank_info.device)
    require_finite(model.state_dict(), f"model.start: {config.model.start}")
    average = moving_average(model, config.optim.ema) if config.optim.ema else None
    state = RunState(path, model, average, make_optimiser(model.named_parameters(), config.optim))
    if path.is_file():
        _restore(state, config, rank_info)
    state.skipped = read_skipped_steps(path.parent)
    if rank_info.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(CONFIG_NAME).write_text(as_yaml(config), encoding="utf-8")
    barrier()
    return state


def _restore(state: RunState, config: TrainConfig, rank_info: RankInfo) -> None:
    """Restore the state in `checkpoint.pt`, and the metric of `best.pt`."""
    checkpoint = load_checkpoint(state.path)
    _check_same_config(checkpoint.provenance.get("config") or {}, config)
    saved = checkpoint.training_state
    require_finite(saved["weights"], str(state.path))
    state.model.load_state_dict(saved["weights"])
    if state.average is not None:
        state.average.module.load_state_dict(saved["average"])
        state.average.n_averaged.fill_(saved["step"] + 1)
    state.optimiser.load_state_dict(saved["optimiser"])
    state.step, state.history, state.seconds = saved["step"], list(saved["history"]), saved["seconds"]
    state.best = _read_best_metric(state.path.with_name(BEST_NAME))
    logger.info("resuming from step %d of %s", state.step, state.path)
    previous = saved.get("processes", rank_info.world_size)
    if previous != rank_info.world_size:
        logger.warning(
            "the run resumes with %d processes instead of %d: each step has the same clips, but dropout, mixup and "
            "cutmix use different random numbers, and sums are rounded differently",
            rank_info.world_size,
            previous,
        )


def _read_best_metric(path: Path) -> float | None:
    """Return the metric of the weights in `best.pt`; None if the file does not exist or must be replaced."""
    if not path.is_file():
        return None
    try:
        checkpoint = load_checkpoint(path)
        require_finite(checkpoint.weights, str(path))
    except CheckpointError as error:
        logger.warning("%s; the next evaluation replaces the file", error)
        return None
    history = checkpoint.provenance.get("history") or [{}]
    if history[-1].get("step") != checkpoint.provenance.get("steps"):
        logger.warning(
            "%s was written at step %s by an earlier version, but its last evaluation was at step %s; "
            "the next evaluation replaces the file",
            path,
            checkpoint.provenance.get("steps"),
            history[-1].get("step"),
        )
        return None
    return _selection_metric(history[-1])


def read_skipped_steps(folder: Path) -> dict[int, str]:
    """Return the steps of a run whose batches are skipped, with reasons.

    Raises:
        ConfigError: the file of skipped steps cannot be read.
    """
    path = folder / SKIPPED_STEPS_NAME
    if not path.is_file():
        return {}
    try:
        return {int(step): str(reason) for step, reason in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; remove it to try all steps again") from error


def record_skipped_step(folder: Path, step: int, reason: str) -> None:
    """Add a step to the file of skipped steps."""
    skipped = {**read_skipped_steps(folder), step: reason}
    document = {str(number): skipped[number] for number in sorted(skipped)}
    write_atomically(folder / SKIPPED_STEPS_NAME, json.dumps(document, indent=1))


def moving_average(model: nn.Module, ema: float) -> AveragedModel:
    """Return a model with the exponential moving average of the weights; running statistics are copied.

    The initial weights count as the first average. The update after step s (from 0) has the decay
    min(ema, (s + 1) / (s + 10)), so that the initial weights have little influence on early averages.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        decay = min(ema, count / (count + 9))
        for average, value in zip(averages, weights, strict=True):
            average.lerp_(value, 1 - decay)

    average = AveragedModel(model, multi_avg_fn=update).eval()
    average.n_averaged.fill_(1)
    return average


def save_state(state: RunState, config: TrainConfig, source: Source, rank_info: RankInfo) -> None:
    """Write `checkpoint.pt`; only rank 0 writes."""
    if rank_info.is_main_process:
        save_checkpoint(state.path, make_checkpoint(state, config, source, num_processes=rank_info.world_size))
    barrier()


def save_best(state: RunState, config: TrainConfig, source: Source, rank_info: RankInfo) -> None:
    """Write the weights that were just evaluated to `best.pt`; only rank 0 writes."""
    if rank_info.is_main_process:
        checkpoint = make_checkpoint(state, config, source, num_processes=rank_info.world_size)
        save_checkpoint(state.path.with_name(BEST_NAME), replace(checkpoint, training_state={}))
    barrier()


def make_checkpoint(state: RunState, config: TrainConfig, source: Source, *, num_processes: int = 1) -> Checkpoint:
    """Return the state as a self-contained checkpoint; low-rank adapters are merged into the matrices."""
    clips = state.step * config.run.batch_size
    provenance = {
        "config": as_dict(config),
        "steps": state.step,
        "clips": clips,
        "train_seconds": round(state.seconds, 1),
        "history": list(state.history),
        "skipped_steps": {str(step): why for step, why in state.skipped.items() if step <= state.step},
    }
    training_state: dict[str, Any] = {
        "weights": state.model.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "history": state.history,
        "seconds": state.seconds,
        "processes": num_processes,
    }
    if state.average is not None:
        training_state["average"] = state.average.module.state_dict()
    return Checkpoint(
        family=state.model.family,
        model_config=dict(config.model.model),
        weights=_contiguous_weights(state.evaluated_model),
        sampling=make_sampling_contract(config.data),
        preprocess=make_preprocess_contract(config.data),
        text=make_text_contract(config),
        scoring=make_scoring_contract(config, state.evaluated_model),
        labels=source.labels,
        card=source.card(state.history, seconds=state.seconds, clips=clips),
        provenance=provenance,
        training_state=training_state,
    )


def _contiguous_weights(model: VideoTextModel) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in merge_adapters(model).items()}


def _check_same_config(saved: Mapping[str, Any], config: TrainConfig) -> None:
    """Raise if the configuration differs from that of the saved run, because resuming would mix two runs.

    A run may be extended; the learning rate then follows the schedule of the new length from the current step on.

    Raises:
        ConfigError: the configurations differ.
    """
    current = as_dict(config)
    changed = [name for name in changed_keys(with_defaults(saved), current) if name not in NEUTRAL_KEYS]
    changed_lengths = [name for name in changed if name in LENGTH_KEYS]
    if changed_lengths and _is_longer(saved.get("run", {}), current["run"]):
        values = ", ".join(f"{name}={_get_value(current, name)}" for name in changed_lengths)
        logger.info("the run is extended: %s", values)
        changed = [name for name in changed if name not in LENGTH_KEYS]
    if changed:
        raise ConfigError(
            f"run.out: {config.run.out} contains a run with a different configuration ({', '.join(changed[:6])}); "
            "use another folder, or remove this one"
            + ("; run.steps and run.epochs can be increased, but not decreased or exchanged" if changed_lengths else "")
        )


def _is_longer(saved: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Return whether the run has the same unit of length, steps or epochs, and is not shorter."""
    names = [name.removeprefix("run.") for name in LENGTH_KEYS]
    return all(current[name] >= saved.get(name, 0) and bool(current[name]) == bool(saved.get(name)) for name in names)


def _get_value(config: Mapping[str, Any], name: str) -> Any:
    section, _, key = name.partition(".")
    return config[section][key]


def _selection_metric(metrics: Mapping[str, Any]) -> float | None:
    return next((metrics[name] for name in SELECTION_METRICS if metrics.get(name) is not None), None)
