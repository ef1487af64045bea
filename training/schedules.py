"""Learning rate schedules of ActionCLIP and X-CLIP, and a plain cosine; each returns the rate at one step.

ActionCLIP's schedules are functions of the fractional epoch. ActionCLIP's code updates the rate only every tenth step,
so it is zero in the first nine steps; in this project, each step has its own rate. X-CLIP's schedule is a function of
the step. Its cosine starts at step 0, not at the end of the warm-up, so the rate drops by a few percent when the
warm-up ends (7 % with 5 of 30 epochs); the released weights were trained in this way.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from training.config import ConfigError, OptimConfig

MULTISTEP_FACTOR = 0.1
XCLIP_MIN_LR_RATIO = 0.01  # minimum rate of all parameter groups, relative to the base rate


def actionclip_cosine(epoch: float, *, lr: float, warmup_epochs: float, epochs: float) -> float:
    """Return the rate at `epoch`: a linear warm-up from zero, then half a cosine that reaches zero at `epochs`."""
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    progress = min((epoch - warmup_epochs) / (epochs - warmup_epochs), 1.0)
    return lr * 0.5 * (1 + math.cos(math.pi * progress))


def actionclip_multistep(
    epoch: float, *, lr: float, warmup_epochs: float, drop_epochs: float | Sequence[float]
) -> float:
    """Return the rate at `epoch`: a linear warm-up from zero, then `lr` divided by 10 at each drop.

    `drop_epochs` is a sequence of epochs, or a number at whose multiples the rate drops.
    """
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    if isinstance(drop_epochs, Sequence):
        num_drops = sum(epoch >= drop for drop in drop_epochs)
    else:
        num_drops = math.floor(epoch / drop_epochs)
    return lr * MULTISTEP_FACTOR**num_drops


def xclip_cosine(step: int, *, lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """Return the rate at `step`: a linear warm-up from zero, then the cosine of `step / total_steps` to `min_lr`."""
    if step < warmup_steps:
        return lr * step / warmup_steps
    progress = min(step / total_steps, 1.0)
    return min_lr + 0.5 * (lr - min_lr) * (1 + math.cos(math.pi * progress))


def cosine(step: int, *, lr: float, warmup_steps: int, total_steps: int) -> float:
    """Return the rate at `step`: a linear warm-up that ends at `lr`, then half a cosine to zero at `total_steps`."""
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@dataclass(frozen=True, kw_only=True)
class TrainProgress:
    """The current step and the length of a run."""

    step: int
    total_steps: int
    steps_per_epoch: float

    def warmup_steps(self, optim: OptimConfig) -> float:
        """Return the length of the warm-up in steps."""
        return optim.warmup_steps or optim.warmup_epochs * self.steps_per_epoch

    def epochs(self, steps: float) -> float:
        """Convert steps to fractional epochs."""
        return steps / self.steps_per_epoch


def _cosine(progress: TrainProgress, lr: float, optim: OptimConfig) -> float:
    warmup_steps = round(progress.warmup_steps(optim))
    return cosine(progress.step, lr=lr, warmup_steps=warmup_steps, total_steps=progress.total_steps)


def _actionclip_cosine(progress: TrainProgress, lr: float, optim: OptimConfig) -> float:
    warmup = progress.epochs(progress.warmup_steps(optim))
    return actionclip_cosine(
        progress.epochs(progress.step), lr=lr, warmup_epochs=warmup, epochs=progress.epochs(progress.total_steps)
    )


def _actionclip_multistep(progress: TrainProgress, lr: float, optim: OptimConfig) -> float:
    warmup = progress.epochs(progress.warmup_steps(optim))
    return actionclip_multistep(progress.epochs(progress.step), lr=lr, warmup_epochs=warmup, drop_epochs=optim.drops)


def _xclip_cosine(progress: TrainProgress, lr: float, optim: OptimConfig) -> float:
    return xclip_cosine(
        progress.step,
        lr=lr,
        min_lr=XCLIP_MIN_LR_RATIO * optim.lr,
        warmup_steps=int(progress.warmup_steps(optim)),
        total_steps=progress.total_steps,
    )


Schedule = Callable[[TrainProgress, float, OptimConfig], float]  # progress, peak rate of a group, configuration -> rate
SCHEDULES: Mapping[str, Schedule] = {
    "cosine": _cosine,
    "actionclip_cosine": _actionclip_cosine,
    "actionclip_multistep": _actionclip_multistep,
    "xclip_cosine": _xclip_cosine,
}


def schedule_of(optim: OptimConfig) -> Schedule:
    """Return the configured schedule.

    Raises:
        ConfigError: the name of the schedule is unknown.
    """
    if optim.schedule not in SCHEDULES:
        raise ConfigError(f"optim.schedule must be one of {', '.join(SCHEDULES)}, got {optim.schedule!r}")
    return SCHEDULES[optim.schedule]
