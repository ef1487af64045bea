"""Learning rate schedules, as published by both systems; each returns the rate of one parameter group.

ActionCLIP's schedule is by fractional epochs. The original updates the rate every tenth step, so it is zero for nine
steps; here each step has its own rate. X-CLIP's schedule is by updates; its cosine does not continue from the end of
the warm-up, so the rate drops there by some percent (7 with 5 of 30 epochs), as for its released weights.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from training.config import ConfigError, OptimConfig

MULTISTEP_FACTOR = 0.1
XCLIP_LOWEST = 0.01  # relative to the base rate; the same floor for groups with a higher rate


def actionclip_cosine(epoch: float, *, lr: float, warmup_epochs: float, epochs: float) -> float:
    """Return a linear warm-up from zero, then half a cosine to zero at `epochs`."""
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    progress = min((epoch - warmup_epochs) / (epochs - warmup_epochs), 1.0)
    return lr * 0.5 * (1 + math.cos(math.pi * progress))


def actionclip_multistep(epoch: float, *, lr: float, warmup_epochs: float, steps: float | Sequence[float]) -> float:
    """Return a linear warm-up from zero, then a tenth at each multiple of `steps`, or at each epoch of a list."""
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    passed = sum(epoch >= step for step in steps) if isinstance(steps, Sequence) else math.floor(epoch / steps)
    return lr * MULTISTEP_FACTOR**passed


def xclip_cosine(update: int, *, lr: float, lowest: float, warmup_updates: int, updates: int) -> float:
    """Return a linear warm-up from zero, then the cosine of `update / updates`, down to `lowest`."""
    if update < warmup_updates:
        return lr * update / warmup_updates
    progress = min(update / updates, 1.0)
    return lowest + 0.5 * (lr - lowest) * (1 + math.cos(math.pi * progress))


def late_cosine(step: int, *, lr: float, warmup_steps: int, steps: int) -> float:
    """Return a linear warm-up that ends at `lr`, then half a cosine to zero at the last step."""
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(steps - warmup_steps, 1)
    return lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@dataclass(frozen=True, kw_only=True)
class TrainProgress:
    """The current step and the length of a run."""

    step: int
    steps: int  # of the run
    epoch_steps: float  # of an epoch

    def warmup_steps(self, optim: OptimConfig) -> float:
        """Return the length of the warm-up in steps."""
        return optim.warmup_steps or optim.warmup_epochs * self.epoch_steps

    def epochs(self, steps: float) -> float:
        """Convert steps to fractional epochs."""
        return steps / self.epoch_steps


def _cosine(progress: TrainProgress, lr: float, optim: OptimConfig) -> float:
    return late_cosine(progress.step, lr=lr, warmup_steps=round(progress.warmup_steps(optim)), steps=progress.steps)


def _actionclip_cosine(progress: TrainProgress, lr: float, optim: OptimConfig) -> float:
    warmup = progress.epochs(progress.warmup_steps(optim))
    return actionclip_cosine(
        progress.epochs(progress.step), lr=lr, warmup_epochs=warmup, epochs=progress.epochs(progress.steps)
    )


def _actionclip_multistep(progress: TrainProgress, lr: float, optim: OptimConfig) -> float:
    warmup = progress.epochs(progress.warmup_steps(optim))
    return actionclip_multistep(progress.epochs(progress.step), lr=lr, warmup_epochs=warmup, steps=optim.drops)


def _xclip_cosine(progress: TrainProgress, lr: float, optim: OptimConfig) -> float:
    return xclip_cosine(
        progress.step,
        lr=lr,
        lowest=XCLIP_LOWEST * optim.lr,
        warmup_updates=int(progress.warmup_steps(optim)),
        updates=progress.steps,
    )


Schedule = Callable[[TrainProgress, float, OptimConfig], float]
SCHEDULES: Mapping[str, Schedule] = {
    "cosine": _cosine,
    "actionclip_cosine": _actionclip_cosine,
    "actionclip_multistep": _actionclip_multistep,
    "xclip_cosine": _xclip_cosine,
}


def schedule_of(optim: OptimConfig) -> Schedule:
    """Return the schedule of a configuration: (progress, peak rate of a group, configuration) -> rate.

    Raises:
        ConfigError: the name is unknown.
    """
    if optim.schedule not in SCHEDULES:
        raise ConfigError(f"optim.schedule: one of {', '.join(SCHEDULES)} is needed, found {optim.schedule!r}")
    return SCHEDULES[optim.schedule]
