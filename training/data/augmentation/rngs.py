"""Where the randomness of one training sample comes from.

The two systems draw from Python's, NumPy's and torch's global generators. Here the same three generators are values: a
sample drawn from a seed is the same in any worker and any order, and equals the originals' under that seed.
"""

import copy
import random
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Rngs:
    """Three generators; each function says which of them it advances."""

    python: random.Random
    numpy: np.random.RandomState  # the legacy stream: what `np.random.seed` seeds
    torch: torch.Generator

    def copy_state(self) -> "Rngs":
        """A copy that will draw what this one is about to draw."""
        return Rngs(python=copy.copy(self.python), numpy=copy.deepcopy(self.numpy), torch=self.torch.clone_state())


def seeded_rngs(seed: int, *, numpy_seed: int | None = None) -> Rngs:
    """All three from one seed below 2**32, as `random.seed`, `np.random.seed` and `torch.manual_seed` would.

    NumPy's may have a seed of its own.
    """
    return Rngs(
        python=random.Random(seed),
        numpy=np.random.RandomState(seed if numpy_seed is None else numpy_seed),
        torch=torch.Generator().manual_seed(seed),
    )
