"""The state of a run, and its files: `checkpoint.pt` to resume from, `best.pt` to use.

Each file is replaced atomically. `checkpoint.pt` includes the optimiser. `best.pt` is written after each evaluation
with a new best top-1, without the optimiser, so it holds exactly the measured weights. With weight averaging, both
files load as the averaged weights.
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
from training.config import NEUTRAL, ConfigError, TrainConfig, as_yaml, completed, differences, plain
from training.data.clips.rules import preprocess_of, sampling_of
from training.distributed import RankInfo, barrier
from training.models.adapters import merge_adapters
from training.models.base import VideoTextModel
from training.optimisers import make_optimiser
from training.prompting import scoring_rules, text_rules
from training.sources.registry import Source

logger = logging.getLogger(__name__)

LAST, BEST, RESOLVED, SKIPPED = "checkpoint.pt", "best.pt", "config.yaml", "skipped_steps.json"
RANKED_BY = ("top1", "held_out")  # the first of these that an evaluation reports
LENGTHS = ("run.steps", "run.epochs")  # a run may be extended


@dataclass
class RunState:
    """The state of a run at a step."""

    path: Path
    model: VideoTextModel
    average: AveragedModel | None  # exponential moving average of the weights
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None  # metric of the weights in `best.pt`
    skipped: dict[int, str] = field(default_factory=dict)  # step (from 1) -> what was not finite

    @property
    def best_weights(self) -> VideoTextModel:
        """Return the model to evaluate and to use."""
        return self.model if self.average is None else cast(VideoTextModel, self.average.module)

    def note(self, figures: dict[str, Any]) -> bool:
        """Record an evaluation; return whether it is better than that of `best.pt`."""
        self.history.append(figures)
        value = _rank(figures)
        if value is None or (self.best is not None and value <= self.best):
            return False
        self.best = value
        return True

    def skip_step(self) -> None:
        """Count a skipped step, also in the weight average."""
        self.step += 1
        if self.average is not None:
            self.average.n_averaged += 1


def start_or_resume(config: TrainConfig, rank_info: RankInfo) -> RunState:
    """Return a new state, or that of the checkpoint in the run's folder.

    Raises:
        ConfigError: the folder holds a run of another configuration.
        CheckpointError: the initial weights are not finite.
    """
    path = Path(config.run.out) / LAST
    model = initial_model(config.model).to(rank_info.device)
    require_finite(model.state_dict(), f"model.start: {config.model.start}")
    average = moving_average(model, config.optim.ema) if config.optim.ema else None
    state = RunState(path, model, average, make_optimiser(model.named_parameters(), config.optim))
    if path.is_file():
        _restore(state, config, rank_info)
    state.skipped = skipped_steps(path.parent)
    if rank_info.is_first:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(RESOLVED).write_text(as_yaml(config), encoding="utf-8")
    barrier()
    return state


def _restore(state: RunState, config: TrainConfig, rank_info: RankInfo) -> None:
    """Restore the last checkpoint and the metric of the best one."""
    saved = load_checkpoint(state.path)
    _refuse_other(saved.provenance.get("config") or {}, config)
    kept = saved.training_state
    require_finite(kept["weights"], str(state.path))
    state.model.load_state_dict(kept["weights"])
    if state.average is not None:
        state.average.module.load_state_dict(kept["average"])
        state.average.n_averaged.fill_(kept["step"] + 1)
    state.optimiser.load_state_dict(kept["optimiser"])
    state.step, state.history, state.seconds = kept["step"], list(kept["history"]), kept["seconds"]
    state.best = _best_of(state.path.with_name(BEST))
    logger.info("resuming from step %d of %s", state.step, state.path)
    before = kept.get("processes", rank_info.count)
    if before != rank_info.count:
        logger.warning(
            "the run resumes with %d processes instead of %d: each step has the same clips, but dropout, mixup and "
            "cutmix use other random numbers, and sums round differently",
            rank_info.count,
            before,
        )


def _best_of(path: Path) -> float | None:
    """Return the metric of `best.pt`; None if the file does not exist or its weights were not measured."""
    if not path.is_file():
        return None
    try:
        saved = load_checkpoint(path)
        require_finite(saved.weights, str(path))
    except CheckpointError as error:
        logger.warning("%s; the next evaluation replaces the file", error)
        return None
    history = saved.provenance.get("history") or [{}]
    if history[-1].get("step") != saved.provenance.get("steps"):
        logger.warning(
            "%s was written at step %s by an earlier version, after the evaluation of step %s: "
            "the next evaluation replaces it",
            path,
            saved.provenance.get("steps"),
            history[-1].get("step"),
        )
        return None
    return _rank(history[-1])


def skipped_steps(folder: Path) -> dict[int, str]:
    """Return the skipped steps of a run, with reasons.

    Raises:
        ConfigError: the file that lists them cannot be read.
    """
    path = folder / SKIPPED
    if not path.is_file():
        return {}
    try:
        return {int(step): str(reason) for step, reason in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; remove it to try all steps again") from error


def note_skipped(folder: Path, step: int, reason: str) -> None:
    """Skip the batch of a step from now on."""
    found = {**skipped_steps(folder), step: reason}
    write_atomically(folder / SKIPPED, json.dumps({str(each): found[each] for each in sorted(found)}, indent=1))


def moving_average(model: nn.Module, ema: float) -> AveragedModel:
    """Return the exponential moving average of a model's weights; running statistics are copied.

    The starting weights count as the first average, so that the update after step s (from 0) has the decay
    min(ema, (s + 1) / (s + 10)): early averages forget the start.
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
    """Write the checkpoint to resume from; only rank 0 writes."""
    if rank_info.is_first:
        save_checkpoint(state.path, checkpoint_of(state, config, source, num_processes=rank_info.count))
    barrier()


def save_best(state: RunState, config: TrainConfig, source: Source, rank_info: RankInfo) -> None:
    """Write the weights that were just measured as the best ones; only rank 0 writes."""
    if rank_info.is_first:
        checkpoint = checkpoint_of(state, config, source, num_processes=rank_info.count)
        save_checkpoint(state.path.with_name(BEST), replace(checkpoint, training_state={}))
    barrier()


def checkpoint_of(state: RunState, config: TrainConfig, source: Source, *, num_processes: int = 1) -> Checkpoint:
    """Return the state as a self-contained checkpoint; adapters are merged into their matrices."""
    clips = state.step * config.run.batch_size
    provenance = {
        "config": plain(config),
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
        weights=_plain_weights(state.best_weights),
        sampling=sampling_of(config.data),
        preprocess=preprocess_of(config.data),
        text=text_rules(config),
        scoring=scoring_rules(config, state.best_weights),
        labels=source.labels,
        card=source.card(state.history, seconds=state.seconds, clips=clips),
        provenance=provenance,
        training_state=training_state,
    )


def _plain_weights(model: VideoTextModel) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in merge_adapters(model).items()}


def _refuse_other(saved: Mapping[str, Any], config: TrainConfig) -> None:
    """Refuse another configuration: resuming would mix two runs, and starting over would overwrite the first.

    A longer run is allowed: the learning rate follows the schedule of the new length from here on.
    """
    given = plain(config)
    changed = [name for name in differences(completed(saved), given) if name not in NEUTRAL]
    lengths = [name for name in changed if name in LENGTHS]
    if lengths and _is_longer(saved.get("run", {}), given["run"]):
        logger.info("the run is extended: %s", ", ".join(f"{name}={_value(given, name)}" for name in lengths))
        changed = [name for name in changed if name not in LENGTHS]
    if changed:
        raise ConfigError(
            f"run.out: {config.run.out} holds a run of another configuration ({', '.join(changed[:6])}); "
            "name another folder, or remove it"
            + ("; run.steps and run.epochs can be raised, not lowered or exchanged" if lengths else "")
        )


def _is_longer(saved: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Return whether one of steps and epochs is larger and the other is unchanged."""
    names = [name.removeprefix("run.") for name in LENGTHS]
    return all(given[name] >= saved.get(name, 0) and bool(given[name]) == bool(saved.get(name)) for name in names)


def _value(values: Mapping[str, Any], name: str) -> Any:
    section, _, key = name.partition(".")
    return values[section][key]


def _rank(figures: Mapping[str, Any]) -> float | None:
    return next((figures[name] for name in RANKED_BY if figures.get(name) is not None), None)
