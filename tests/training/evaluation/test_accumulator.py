"""Rows of several ranks make the figures of one; what cannot be read is counted and never dropped."""

import pickle

import numpy as np
import pytest

from serve.contract import ScoringContract
from serve.scoring import Scores, reduce_logits, top_k
from training.evaluation.accumulator import MetricAccumulator, UnreadableVideo, score_video
from training.evaluation.errors import EvaluationError
from training.evaluation.metrics import mean_class_accuracy, top_k_hits
from training.evaluation.score_intervals import Interval, wilson_interval

NUM_CLASSES = 7


def made(num_videos: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    logits = random.normal(size=(num_videos, NUM_CLASSES)).astype(np.float32)
    labels = random.integers(0, NUM_CLASSES, num_videos)
    logits[np.arange(num_videos), labels] += 1
    probabilities = np.exp(logits)
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels


def unreadable(index: int, label: int = 3) -> UnreadableVideo:
    return UnreadableVideo(index=index, path=f"{index}.mp4", label=label, reason="broken")


def add_one(
    accumulator: MetricAccumulator,
    index: int,
    label: int,
    probabilities: np.ndarray,
    path: str,
    *,
    digest: str = "",
    group: str = "",
) -> None:
    values = probabilities.astype(np.float32)
    scores = Scores(scores=values, logits=values, cosines=values)
    accumulator.add(score_video(scores, index=index, path=path, label=label, digest=digest, group=group))


def add(accumulator: MetricAccumulator, chosen: np.ndarray) -> None:
    probabilities, labels = made()
    for index in chosen.tolist():
        add_one(accumulator, index, int(labels[index]), probabilities[index], f"{index}.mp4")


def test_ranks_merge_to_the_very_figures_of_one_process() -> None:
    whole = MetricAccumulator(NUM_CLASSES)
    add(whole, np.arange(60))
    whole.add(unreadable(60))
    parts = [MetricAccumulator(NUM_CLASSES) for _ in range(3)]
    for rank, part in enumerate(parts):
        add(part, np.arange(rank, 60, 3))
    parts[1].add(unreadable(60))
    merged = parts[2]
    for part in pickle.loads(pickle.dumps(parts[:2])):
        merged.merge(part)
    assert merged.compute() == whole.compute()
    assert merged.intervals() == whole.intervals()
    assert merged.readable == whole.readable


def test_figures_are_those_of_the_metric_functions() -> None:
    probabilities, labels = made()
    accumulator = MetricAccumulator(NUM_CLASSES)
    add(accumulator, np.arange(60))
    figures, hits = accumulator.compute(), top_k_hits(probabilities, labels, 1)
    assert figures.top1 == hits.mean() == figures.top1_all
    assert figures.top5 == top_k_hits(probabilities, labels, 5).mean()
    assert figures.mean_class_accuracy == mean_class_accuracy(hits, labels)
    assert figures.negative_log_likelihood == pytest.approx(-np.log(probabilities[np.arange(60), labels]).mean())
    assert sum(item.count for item in figures.bins) == 60
    assert [item.count for item in figures.classes] == np.bincount(labels).tolist()
    for name, (low, high) in accumulator.intervals().items():
        assert low < getattr(figures, name) < high


def test_unreadable_videos_are_misses_of_all_and_no_part_of_the_rest() -> None:
    accumulator = MetricAccumulator(2)
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], np.float32)
    for values, index, label, path in zip(scores, (0, 2, 3), (0, 1, 1), "acd", strict=True):
        add_one(accumulator, index, label, values, path)
    accumulator.add(unreadable(1, label=1))
    accumulator.add(unreadable(4, label=-1))
    figures = accumulator.compute()
    assert (figures.num_videos, figures.num_readable, figures.num_unreadable) == (5, 3, 2)
    assert figures.top1 == pytest.approx(2 / 3) and figures.top1_all == pytest.approx(2 / 5)
    assert figures.top5_k == 2 and figures.top5 == 1
    second = figures.classes[1]
    assert (second.count, second.unreadable, second.top1) == (2, 1, 0.5)
    assert (second.confused_with, second.confused_count) == (0, 1)
    assert figures.classes[0].confused_with is None
    assert [row.margin for row in accumulator.readable] == pytest.approx([0.8, 0.6, -0.4])


def test_a_row_is_ordered_as_serving_answers() -> None:
    contract = ScoringContract(
        logit_scale=1.0, ensembling="mean_probability", view_rule="mean_probability", activation="sigmoid"
    )
    logits = np.array([[[60.0, 70.0, 65.0, -3.0]]], np.float32)  # three sigmoids that round to one
    scores = reduce_logits(logits, contract, function="sigmoid")
    row = score_video(scores, index=0, path="a", label=2)
    assert row.top == tuple(top_k(scores, 4)) == (1, 2, 0, 3)
    assert row.rank == 1


def test_no_video_counts_twice_and_labels_are_classes() -> None:
    accumulator, other = MetricAccumulator(NUM_CLASSES), MetricAccumulator(NUM_CLASSES)
    add(accumulator, np.arange(3))
    add(other, np.arange(2, 4))
    with pytest.raises(ValueError, match=r"video 2 \(2.mp4\) was already added"):
        accumulator.merge(other)
    with pytest.raises(ValueError, match="the label must be less than 7, got 7"):
        accumulator.add(unreadable(9, label=7))
    with pytest.raises(ValueError, match="7 and 8 classes"):
        accumulator.merge(MetricAccumulator(8))


def test_a_list_of_unreadable_videos_is_an_error_with_reasons() -> None:
    accumulator = MetricAccumulator(NUM_CLASSES)
    accumulator.add(unreadable(0))
    with pytest.raises(EvaluationError, match=r"none of the 1 videos can be read \(0.mp4: broken\)"):
        accumulator.compute()


RIGHT = np.array([0.9, 0.1])


def intervals_of(digests: list[str], groups: list[str]) -> tuple[MetricAccumulator, dict[str, Interval]]:
    """VideoSet of class 0 that were all classified correctly."""
    accumulator = MetricAccumulator(2)
    for index, (digest, group) in enumerate(zip(digests, groups, strict=True)):
        add_one(accumulator, index, 0, RIGHT, f"{index}.mp4", digest=digest, group=group)
    return accumulator, accumulator.intervals()


def test_one_clip_25_times_says_as_much_as_one_clip() -> None:
    same = ["same"] * 25
    copies, found = intervals_of(same, [""] * 25)
    declared, of_group = intervals_of([str(i) for i in range(25)], same)
    _, one = intervals_of(["same"], [""])
    _, different = intervals_of([str(i) for i in range(25)], [""] * 25)
    assert (copies.compute().num_independent, copies.compute().num_copies) == (1, 24)
    assert (declared.compute().num_independent, declared.compute().num_copies) == (1, 0)
    for name in ("top1", "top5", "top1_all", "mean_class_accuracy"):
        assert found[name] == of_group[name] == one[name], name
    assert "negative_log_likelihood" in different
    assert "negative_log_likelihood" not in {**found, **of_group, **one}, "a bootstrap of one video has no width"
    assert one["top1"] == pytest.approx((0.2065, 1), abs=1e-4)
    assert different["top1"] == pytest.approx((0.8668, 1), abs=1e-4), "25 clips of 25 videos"


def test_copies_that_could_not_be_read_count_in_their_group() -> None:
    accumulator = MetricAccumulator(2)
    for index in range(10):
        add_one(accumulator, index, 0, RIGHT, f"{index}.mp4", group="film")
    accumulator.add(UnreadableVideo(index=10, path="10.mp4", label=0, reason="broken", group="film"))
    assert accumulator.intervals()["top1_all"] == pytest.approx(wilson_interval(10 / 11, 1))
