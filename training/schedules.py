"""Learning rates over a run, as both systems publish them; each gives the rate of one parameter group.

ActionCLIP counts fractional epochs and the original refreshes every tenth step, so its first nine steps stand still;
here every step has its own rate. X-CLIP counts updates; its cosine does not start where the warm-up ends, so the rate
falls at once by some percent (7 with 5 of 30 epochs), as its released weights were trained.
"""

import math
from collections.abc import Sequence

MULTISTEP_FACTOR = 0.1


def actionclip_cosine(epoch: float, *, lr: float, warmup_epochs: float, epochs: float) -> float:
    """Linear from zero over the warm-up, then half a cosine to zero at `epochs`."""
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    progress = min((epoch - warmup_epochs) / (epochs - warmup_epochs), 1.0)
    return lr * 0.5 * (1 + math.cos(math.pi * progress))


def actionclip_multistep(epoch: float, *, lr: float, warmup_epochs: float, steps: float | Sequence[float]) -> float:
    """Linear from zero over the warm-up, then a tenth at every multiple of `steps`, or at each epoch of a list."""
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    passed = sum(epoch >= step for step in steps) if isinstance(steps, Sequence) else math.floor(epoch / steps)
    return lr * MULTISTEP_FACTOR**passed


def xclip_cosine(update: int, *, lr: float, lowest: float, warmup_updates: int, updates: int) -> float:
    """Linear from zero over the warm-up, then the cosine of `update` of all `updates`, down to `lowest`."""
    if update < warmup_updates:
        return lr * update / warmup_updates
    progress = min(update / updates, 1.0)
    return lowest + 0.5 * (lr - lowest) * (1 + math.cos(math.pi * progress))
