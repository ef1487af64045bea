"""Random generators of one training sample.

The two systems use the global generators of Python, NumPy and torch. Here the three generators are passed as values: a
sample depends only on its seed, not on the worker or the order, and equals that of the originals with the same seed.
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
    numpy: np.random.RandomState  # the legacy generator that `np.random.seed` seeds
    torch: torch.Generator

    def copy_state(self) -> "Rngs":
        """Return a copy with the same state."""
        return Rngs(python=copy.copy(self.python), numpy=copy.deepcopy(self.numpy), torch=self.torch.clone_state())


def seeded_rngs(seed: int, *, numpy_seed: int | None = None) -> Rngs:
    """Seed all three with a number below 2**32, like `random.seed`, `np.random.seed` and `torch.manual_seed`.

    NumPy's generator may have a separate seed.
    """
    return Rngs(
        python=random.Random(seed),
        numpy=np.random.RandomState(seed if numpy_seed is None else numpy_seed),
        torch=torch.Generator().manual_seed(seed),
    )
