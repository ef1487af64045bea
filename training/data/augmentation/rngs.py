"""Random number generators of one training sample.

The published code of ActionCLIP and X-CLIP uses the global generators of Python, NumPy and torch. This project passes
three generators as arguments instead: a sample depends only on its seed, not on the worker or the order of samples, and
the same seed yields the same sample as the published code.
"""

import copy
import random
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Rngs:
    """Three generators; the docstring of each function says which of them it advances."""

    python: random.Random
    numpy: np.random.RandomState  # the legacy generator that `np.random.seed` seeds
    torch: torch.Generator

    def copy_state(self) -> "Rngs":
        """Return a copy with the same state."""
        return Rngs(python=copy.copy(self.python), numpy=copy.deepcopy(self.numpy), torch=self.torch.clone_state())


def seeded_rngs(seed: int, *, numpy_seed: int | None = None) -> Rngs:
    """Return three generators seeded as by `random.seed`, `np.random.seed` and `torch.manual_seed`.

    `seed` must be below 2**32; NumPy's generator uses `numpy_seed` if it is given.
    """
    return Rngs(
        python=random.Random(seed),
        numpy=np.random.RandomState(seed if numpy_seed is None else numpy_seed),
        torch=torch.Generator().manual_seed(seed),
    )
