"""The mixture of text and examples, against arithmetic written out."""

import numpy as np
import pytest

from serve.scoring import unit
from serve.vocabularies.prototypes import (
    LEAST_PROBABILITY,
    SHARPNESSES,
    TOLERANCE,
    WEIGHTS,
    Prototypes,
    fit_prototypes,
)
from tests.tolerances import DOT, assert_close

pytestmark = pytest.mark.numeric

SCALE = 20.0
RANDOM = np.random.default_rng(1)
CENTRES = unit(RANDOM.normal(size=(4, 12)).astype(np.float32))


def near(label: int, count: int, *, spread: float = 0.15) -> np.ndarray:
    return CENTRES[label] + spread * RANDOM.normal(size=(count, 12)).astype(np.float32)


def fitted(counts: dict[int, int], *, num_labels: int, text: np.ndarray | None = None) -> tuple[Prototypes, np.ndarray]:
    """Examples near the centre of their label, and text that knows nothing."""
    features = np.concatenate([near(label, count) for label, count in counts.items()])
    labels = np.repeat(list(counts), list(counts.values()))
    logits = np.zeros((len(features), num_labels), np.float32) if text is None else text
    return fit_prototypes(features, labels, logits, num_labels=num_labels, logit_scale=SCALE), features


def gain(video: np.ndarray, examples: np.ndarray, *, weight: float, sharpness: float) -> float:
    """The formula of the module, straight from its words."""
    prototype = np.mean([example / np.linalg.norm(example) for example in examples], axis=0)
    cosine = float(video @ prototype / np.linalg.norm(video) / np.linalg.norm(prototype))
    return weight * np.exp(-sharpness * (1 - cosine))


def test_a_video_gains_by_its_nearness_to_a_label_s_prototype() -> None:
    prototypes, features = fitted({0: 3, 2: 2}, num_labels=4)
    videos = 3 * RANDOM.normal(size=(5, 12)).astype(np.float32)
    found = prototypes.logits(videos)
    assert found.shape == (5, 4)
    mixture = prototypes.mixture
    assert mixture.weight > 0
    for video, row in zip(videos, found, strict=True):
        expected = [
            gain(video, features[:3], weight=mixture.weight, sharpness=mixture.sharpness),
            0,
            gain(video, features[3:], weight=mixture.weight, sharpness=mixture.sharpness),
            0,
        ]
        assert_close(row, expected, magnitude=mixture.weight * mixture.sharpness, terms=DOT)


def test_the_mixture_is_the_best_of_all_by_really_leaving_out() -> None:
    counts = {0: 3, 1: 1, 3: 2}
    text = RANDOM.normal(size=(6, 6)).astype(np.float32) * 3  # five labels and a rival
    prototypes, features = fitted(counts, num_labels=5, text=text)
    labels = np.repeat(list(counts), list(counts.values()))

    def loss(weight: float, sharpness: float) -> float:
        own, stranger = {label: [] for label in counts}, {label: [] for label in counts}
        for left_out, label in enumerate(labels):
            for keep, losses in (
                ([e for e in range(6) if e != left_out], own),
                ([e for e in range(6) if labels[e] != label], stranger),
            ):
                logits = text[left_out].astype(np.float64)
                for other in set(labels[keep]):
                    examples = features[[e for e in keep if labels[e] == other]]
                    logits[other] += gain(features[left_out], examples, weight=weight * SCALE, sharpness=sharpness)
                probability = np.exp(logits[label] - logits.max()) / np.exp(logits - logits.max()).sum()
                losses[label].append(-np.log(probability + LEAST_PROBABILITY))
        return float(
            np.mean([np.mean(own[label]) for label, count in counts.items() if count > 1])
            + np.mean([np.mean(stranger[label]) for label in counts])
        )

    losses = {(weight, sharpness): loss(weight, sharpness) for weight in WEIGHTS for sharpness in SHARPNESSES}
    good = {pair: value for pair, value in losses.items() if value <= min(losses.values()) + TOLERANCE}
    lowest = min(weight for weight, _ in good)
    best = min((value, pair) for pair, value in good.items() if pair[0] == lowest)[1]
    mixture = prototypes.mixture
    assert (mixture.weight, mixture.sharpness) == (pytest.approx(best[0] * SCALE), best[1])
    assert (mixture.chosen_by, mixture.num_examples) == ("leave_one_out", 6)


def test_examples_of_two_labels_do_not_draw_videos_of_the_others() -> None:
    text = np.zeros((16, 4), np.float32)
    prototypes, _ = fitted({0: 8, 1: 8}, num_labels=4, text=text)
    strangers = prototypes.logits(near(2, 50))
    friends = prototypes.logits(near(0, 50))
    assert prototypes.mixture.weight > 0
    assert (friends.argmax(axis=1) == 0).all()
    assert strangers[:, :2].max() < 0.5 * friends[:, 0].min()


@pytest.mark.parametrize(
    ("counts", "way"),
    [({2: 5}, "leave_one_out"), ({0: 1, 1: 1, 2: 1}, "assumed_affinity"), ({1: 1}, "assumed_affinity")],
)
def test_few_examples_name_their_like_and_say_how_they_were_weighed(counts: dict[int, int], way: str) -> None:
    prototypes, _ = fitted(counts, num_labels=4)
    mixture = prototypes.mixture
    assert (mixture.chosen_by, mixture.num_examples) == (way, sum(counts.values()))
    assert (mixture.accuracy is None) == (way == "assumed_affinity")
    assert mixture.weight > 0
    for label in counts:
        assert (prototypes.logits(near(label, 20)).argmax(axis=1) == label).all()


def test_examples_text_knows_already_get_little_weight() -> None:
    knowing = np.zeros((16, 4), np.float32)
    knowing[np.arange(16), np.repeat(np.arange(4), 4)] = 30
    features = RANDOM.normal(size=(16, 12)).astype(np.float32)  # examples that look like nothing
    mixture = fit_prototypes(features, np.repeat(np.arange(4), 4), knowing, num_labels=4, logit_scale=SCALE).mixture
    assert mixture.weight == 0
    assert mixture.accuracy_by_text == mixture.accuracy == 1.0
