"""Mixing: shares add up, labels follow pixels, draws repeat from their seed."""

import numpy as np
import pytest
import torch

from training.data.augmentation.mixing import Mixing, cutmix_box, smoothed_targets
from training.data.augmentation.rngs import seeded_rngs


@pytest.fixture
def clips() -> torch.Tensor:
    """Every pixel of clip i is i."""
    return torch.arange(6.0).reshape(6, 1, 1, 1, 1).expand(6, 2, 3, 16, 20).contiguous()


@pytest.mark.parametrize("seed", range(8))
def test_targets_follow_the_share_of_pixels(seed: int, clips: torch.Tensor) -> None:
    labels = torch.arange(6)
    mixed, targets = Mixing(smoothing=0.0)(clips, labels, num_classes=6, rngs=seeded_rngs(seed))
    again, _ = Mixing(smoothing=0.0)(clips, labels, num_classes=6, rngs=seeded_rngs(seed))
    assert torch.equal(mixed, again)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
    means = mixed.mean(dim=(1, 2, 3, 4))  # clip i is i everywhere, so the mean says whose share is how large
    torch.testing.assert_close(means, (targets * torch.arange(6.0)).sum(dim=1), atol=1e-5, rtol=1e-5)


def test_both_kinds_are_drawn(clips: torch.Tensor) -> None:
    kinds = set()
    for seed in range(12):
        mixed, _ = Mixing()(clips, torch.arange(6), num_classes=6, rngs=seeded_rngs(seed))
        kinds.add(bool((mixed == mixed.round()).all()))  # pasted pixels stay whole numbers, blended ones do not
    assert kinds == {True, False}


def test_smoothing_leaves_a_little_everywhere() -> None:
    targets = smoothed_targets(torch.tensor([2]), 4, smoothing=0.1)
    np.testing.assert_allclose(targets.numpy(), [[0.025, 0.025, 0.925, 0.025]], rtol=1e-6)


def test_boxes_stay_inside() -> None:
    for seed in range(50):
        box = cutmix_box(16, 20, weight=seed / 50, rngs=seeded_rngs(seed))
        assert box.left >= 0
        assert box.top >= 0
        assert box.left + box.width <= 20
        assert box.top + box.height <= 16
