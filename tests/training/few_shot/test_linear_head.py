"""The linear head: zero-shot without shots, a minimum of what it says it minimises, chosen by leaving out."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from serve.scoring import normalize
from training.few_shot.linear_head import DEFAULT_STRENGTH, STRENGTHS, LinearHead, fit_linear_head

D, K = 24, 5
CENTRES = normalize(np.random.default_rng(3).normal(size=(K, D)).astype(np.float32))


@pytest.fixture(autouse=True)
def fresh_draws() -> None:
    """Each test draws the same numbers, whichever ran before."""
    global RANDOM
    RANDOM = np.random.default_rng(4)


def near(labels: np.ndarray, *, spread: float = 0.1, scale: float = 3.0) -> np.ndarray:
    """Features of any length near the centre of their class."""
    return (scale * (CENTRES[labels] + spread * RANDOM.normal(size=(len(labels), D)))).astype(np.float32)


def fitted(
    counts: tuple[int, ...], *, spread: float = 0.1, text: float = 0.0
) -> tuple[LinearHead, np.ndarray, np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(K), counts)
    features = near(labels, spread=spread)
    offsets = (text * normalize(features) @ CENTRES.T).astype(np.float32)
    return fit_linear_head(features, labels, offsets), features, labels, offsets


@pytest.mark.parametrize("num_shots", [0, 1])
def test_without_shots_it_is_the_zero_shot_classifier(num_shots: int) -> None:
    shots = near(np.arange(num_shots))
    head = fit_linear_head(shots, np.arange(num_shots), np.zeros((num_shots, K), np.float32))
    np.testing.assert_array_equal(head.logits(near(np.arange(K))), 0)
    assert head.l2 is None


def test_shots_teach_what_text_does_not_know() -> None:
    head, *_ = fitted((4,) * K)
    labels = RANDOM.integers(K, size=200)
    assert (head.logits(near(labels)).argmax(axis=1) == labels).mean() > 0.97
    assert head.chosen_by == "cross_validation"


def test_shots_of_nothing_leave_text_alone() -> None:
    labels = np.repeat(np.arange(K), 4)
    noise = RANDOM.normal(size=(len(labels), D)).astype(np.float32)
    offsets = np.where(np.arange(K) == labels[:, None], 6.0, 0.0).astype(np.float32)  # text knows
    head = fit_linear_head(noise, labels, offsets)
    assert head.l2 is None
    np.testing.assert_array_equal(head.logits(noise), 0)


@pytest.mark.parametrize("counts", [(1,) * K, (3,) * K, (12,) * K, (12, 2, 3, 1, 6)], ids=str)
def test_the_weights_are_the_minimum_of_the_stated_loss(counts: tuple[int, ...]) -> None:
    """In all D dimensions, without the turn into the span of the shots."""
    head, features, labels, offsets = fitted(counts, spread=0.2, text=4.0)
    assert head.l2 is not None
    normalized = torch.from_numpy(normalize(features)).double()
    centre = normalized.mean(dim=0)
    shots = (normalized - centre) / (normalized - centre).square().sum(dim=1).mean().sqrt()
    targets, text = torch.from_numpy(labels), torch.from_numpy(offsets).double()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        each = functional.cross_entropy(text + shots @ weights, targets, reduction="none")
        by_class = torch.stack([each[targets == label].mean() for label in range(K)])  # all count the same
        return by_class.mean() + head.l2 * weights.square().sum()

    spread = (normalized - centre).square().sum(dim=1).mean().sqrt()
    found = (torch.from_numpy(head.weights).double() * spread).requires_grad_()
    (slope,) = torch.autograd.grad(loss(found), found)
    assert slope.abs().max() < 1e-4
    for _ in range(20):
        other = found.detach() + 0.3 * torch.from_numpy(RANDOM.normal(size=found.shape))
        assert loss(other) > loss(found)


def test_features_that_lie_close_together_are_fitted_alike() -> None:
    labels = np.repeat(np.arange(K), 4)
    features = normalize(near(labels))
    common = np.zeros((1, D), np.float32)
    common[0, 0] = 20
    close = fit_linear_head(features + common, labels, np.zeros((len(labels), K), np.float32))
    fresh = RANDOM.integers(K, size=100)
    assert (close.logits(normalize(near(fresh)) + common).argmax(axis=1) == fresh).mean() > 0.95


def test_one_shot_each_is_held_back_as_assumed() -> None:
    head, *_ = fitted((1,) * K)
    assert (head.l2, head.chosen_by) == (DEFAULT_STRENGTH, "assumed")
    assert DEFAULT_STRENGTH in STRENGTHS


def test_the_same_shots_give_the_same_head() -> None:
    labels = np.repeat(np.arange(K), 3)
    features = near(labels)
    first, second = (fit_linear_head(features, labels, np.zeros((15, K), np.float32)) for _ in range(2))
    np.testing.assert_array_equal(first.weights, second.weights)
