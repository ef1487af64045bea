"""What a run carries from step to step, and its files: `checkpoint.pt` to go on from, `best.pt` to use.

Both are written in one step. The last checkpoint holds the optimiser; the best one, by top-1 of the evaluations, does
not. Where weights are averaged, the averaged ones are those both are used with.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from training.checkpoints.own import Checkpoint, load_checkpoint, save_checkpoint
from training.checkpoints.start import starting_model
from training.config import NEUTRAL, ConfigError, TrainConfig, as_yaml, completed, differences, plain
from training.contracts import scoring_of, text_of
from training.data.clips.rules import preprocess_of, sampling_of
from training.distributed import Place, wait_for_all
from training.models.adapters import merged_weights
from training.models.base import VideoTextModel
from training.optimisers import make_optimiser
from training.sources.registry import Source

logger = logging.getLogger(__name__)

LAST, BEST, RESOLVED = "checkpoint.pt", "best.pt", "config.yaml"
RANKED_BY = ("top1", "held_out")  # the first of these an evaluation has


@dataclass
class RunState:
    """A run at a step."""

    path: Path
    model: VideoTextModel
    average: AveragedModel | None  # exponential moving average of the weights
    optimiser: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    is_best: bool = False  # since the last time it was kept

    @property
    def best_weights(self) -> VideoTextModel:
        """The model to evaluate and to use."""
        return self.model if self.average is None else cast(VideoTextModel, self.average.module)

    def note(self, figures: dict[str, Any]) -> None:
        """Remember an evaluation."""
        value = _rank(figures)
        others = [known for item in self.history if (known := _rank(item)) is not None]
        self.is_best = value is not None and (not others or value > max(others))
        self.history.append(figures)


def begin(config: TrainConfig, place: Place) -> RunState:
    """A fresh state, or that of the checkpoint in the run's folder.

    Raises:
        ConfigError: the folder holds a run of another configuration.
    """
    path = Path(config.run.out) / LAST
    model = starting_model(config.model).to(place.device)
    average = moving_average(model, config.optim.ema) if config.optim.ema else None
    state = RunState(path, model, average, make_optimiser(model.named_parameters(), config.optim))
    if path.is_file():
        saved = load_checkpoint(path)
        _refuse_other(saved.provenance.get("config") or {}, config)
        kept = saved.training_state
        model.load_state_dict(kept["weights"])
        if average is not None:
            average.module.load_state_dict(kept["average"])
            average.n_averaged.fill_(kept["step"] + 1)
        state.optimiser.load_state_dict(kept["optimiser"])
        state.step, state.history, state.seconds = kept["step"], list(kept["history"]), kept["seconds"]
        logger.info("going on from step %d of %s", state.step, path)
    if place.is_first:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(RESOLVED).write_text(as_yaml(config), encoding="utf-8")
    wait_for_all()
    return state


def moving_average(model: nn.Module, ema: float) -> AveragedModel:
    """The exponential moving average of a model's weights; running statistics are copied.

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


def keep(state: RunState, config: TrainConfig, source: Source, place: Place) -> None:
    """Write the checkpoint, and the best one where the last evaluation was; the first process writes."""
    if place.is_first:
        checkpoint = checkpoint_of(state, config, source)
        save_checkpoint(state.path, checkpoint)
        if state.is_best:
            save_checkpoint(state.path.with_name(BEST), replace(checkpoint, training_state={}))
            state.is_best = False
    wait_for_all()


def checkpoint_of(state: RunState, config: TrainConfig, source: Source) -> Checkpoint:
    """The state as a file that rebuilds its model alone; adapters are merged into their matrices."""
    clips = state.step * config.run.batch_size
    provenance = {
        "config": plain(config),
        "steps": state.step,
        "clips": clips,
        "train_seconds": round(state.seconds, 1),
        "history": state.history,
    }
    training_state: dict[str, Any] = {
        "weights": state.model.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "history": state.history,
        "seconds": state.seconds,
    }
    if state.average is not None:
        training_state["average"] = state.average.module.state_dict()
    return Checkpoint(
        family=state.model.family,
        model_config=dict(config.model.model),
        weights=_plain_weights(state.best_weights),
        sampling=sampling_of(config.data),
        preprocess=preprocess_of(config.data),
        text=text_of(config),
        scoring=scoring_of(config, state.best_weights),
        labels=source.labels,
        card=source.card(state.history, seconds=state.seconds, clips=clips),
        provenance=provenance,
        training_state=training_state,
    )


def _plain_weights(model: VideoTextModel) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in merged_weights(model).items()}


def _refuse_other(saved: Mapping[str, Any], config: TrainConfig) -> None:
    """Another configuration means another run: going on would mix them, beginning anew would destroy the first."""
    changed = [name for name in differences(completed(saved), plain(config)) if name not in NEUTRAL]
    if changed:
        raise ConfigError(
            f"run.out: {config.run.out} holds a run of another configuration ({', '.join(changed[:6])}); "
            "name another folder, or remove it"
        )


def _rank(figures: Mapping[str, Any]) -> float | None:
    return next((figures[name] for name in RANKED_BY if figures.get(name) is not None), None)
