"""The demo world's training clips: each seed once, whatever the number of workers before and after a stop."""

from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from tests.training.conftest import more_workers_than_processors
from training.config import DataConfig
from training.data.clips.datasets import start_method
from training.data.clips.rules import make_preprocess_contract
from training.demo.dataset import RenderedClips

BATCH, STEPS = 3, 5


class Seeds(RenderedClips):
    """Gives the seed in place of the clip."""

    def clip(self, seed: int) -> tuple[torch.Tensor, int]:
        return torch.tensor(seed), 0


def seeds(*, workers: int, first_step: int, steps: int) -> list[int]:
    clips = Seeds(
        num_frames=2, rule=make_preprocess_contract(DataConfig()), first_seed=100 + first_step * BATCH, batch_size=BATCH
    )
    loader = DataLoader(clips, batch_size=BATCH, num_workers=workers, multiprocessing_context=start_method(workers))
    return [seed for batch, _ in islice(loader, steps) for seed in batch.tolist()]


@more_workers_than_processors
@pytest.mark.parametrize("workers", range(5))
def test_every_seed_comes_once(workers: int) -> None:
    """Any number of workers gives the same seeds from any step on, so it may change where a run goes on."""
    assert seeds(workers=workers, first_step=0, steps=STEPS) == list(range(100, 100 + BATCH * STEPS))
    assert seeds(workers=workers, first_step=3, steps=2) == list(range(109, 115))
