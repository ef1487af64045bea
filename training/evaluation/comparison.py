"""Compare two results video by video: which videos only one of the two models classified correctly."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Int64Array
from serve.independence import assign_groups, count_groups
from training.evaluation.accumulator import TOP_K
from training.evaluation.bootstrap import mcnemar
from training.evaluation.errors import EvaluationError
from training.evaluation.metrics import class_accuracies, mean_class_accuracy
from training.evaluation.score_intervals import (
    CONFIDENCE_LEVEL,
    Interval,
    accuracy_difference_interval,
    class_accuracy_difference_interval,
)
from training.evaluation.stored_results import StoredResult, StoredSplit, StoredVideo

SCHEMA, VERSION = "actserve-comparison", 2
MAX_LISTED = 5  # names in a message, and classes in a summary

Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class MetricDifference:
    """A metric of both results and its difference, second - first."""

    first: float
    second: float
    difference: float
    interval: Interval  # 95 % interval of the difference


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """Accuracy of one class in both results."""

    name: str
    count: int
    first: float  # top-1
    second: float
    gained: int  # videos that only the second model classified correctly
    lost: int  # videos that only the first model classified correctly


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Metrics over the videos that both models could read; the comparison file contains these fields."""

    name: str
    num_videos: int
    num_independent: int  # counting each group of dependent videos once
    num_unreadable: int  # videos that one or both could not read, not compared
    top5_k: int
    figures: Mapping[str, MetricDifference]
    gained: int  # videos that only the second model classified correctly
    lost: int  # videos that only the first model classified correctly
    mcnemar_p: float
    classes: tuple[ClassChange, ...]  # in descending order of the difference


def compare(first: StoredResult, second: StoredResult) -> tuple[Comparison, ...]:
    """Compare each split of a result with the same split of another.

    Raises:
        EvaluationError: the results differ in videos, labels or class names, or no video was read in both.
    """
    if len(first.splits) != len(second.splits):
        raise EvaluationError(
            f"{first.file} contains {len(first.splits)} splits, {second.file} contains {len(second.splits)}; "
            "only results on the same lists can be compared"
        )
    return tuple(_compare_split(one, other) for one, other in zip(first.splits, second.splits, strict=True))


def comparison_document(first: StoredResult, second: StoredResult, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return comparisons as plain JSON values."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "first": first.checkpoint,
        "second": second.checkpoint,
        "is_same_protocol": first.protocol == second.protocol,
        "confidence": CONFIDENCE_LEVEL,
        "splits": [asdict(item) for item in comparisons],
    }


def comparison_summary(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison document with only the classes that changed most."""
    splits = [
        {
            **{key: value for key, value in split.items() if key != "classes"},
            "most_gained": [
                _name_and_difference(item) for item in split["classes"][:MAX_LISTED] if item["second"] > item["first"]
            ],
            "most_lost": [
                _name_and_difference(item)
                for item in split["classes"][::-1][:MAX_LISTED]
                if item["second"] < item["first"]
            ],
        }
        for split in content["splits"]
    ]
    return {**content, "splits": splits}


def _name_and_difference(item: Mapping[str, Any]) -> list[Any]:
    return [item["name"], round(item["second"] - item["first"], 4)]


def _compare_split(first: StoredSplit, second: StoredSplit) -> Comparison:
    _check_same_videos(first, second)
    pairs = [(key[0], video, second.videos[key]) for key, video in first.videos.items()]
    readable = [pair for pair in pairs if pair[1].rank is not None and pair[2].rank is not None]
    both = [(one, other) for _, one, other in readable]
    if not both:
        raise EvaluationError(f"{first.name}: no video was read in both results")
    index_of = {name: index for index, name in enumerate(first.class_names)}
    labels = np.array([index_of[str(one.label)] for one, _ in both], np.int64)
    groups = assign_groups(
        names=[path for path, _, _ in readable],
        digests=[one.digest for _, one, _ in readable],
        declared=[one.group for _, one, _ in readable],
    )
    ranks = _ranks([one for one, _ in both]), _ranks([other for _, other in both])
    hits, k = (ranks[0] == 1, ranks[1] == 1), min(TOP_K, len(first.class_names))  # stored ranks begin with 1
    classes = _class_changes(hits, labels, first.class_names)
    return Comparison(
        name=first.name,
        num_videos=len(both),
        num_independent=count_groups(groups).num_independent,
        num_unreadable=len(pairs) - len(both),
        top5_k=k,
        figures={
            "top1": _difference(*hits, groups),
            "top5": _difference(ranks[0] <= k, ranks[1] <= k, groups),
            "mean_class_accuracy": _class_difference(*hits, labels, groups),
        },
        gained=sum(item.gained for item in classes),
        lost=sum(item.lost for item in classes),
        mcnemar_p=mcnemar(hits[1], hits[0]),
        classes=classes,
    )


def _check_same_videos(first: StoredSplit, second: StoredSplit) -> None:
    if first.class_names != second.class_names:
        only = sorted(set(first.class_names) ^ set(second.class_names))
        difference = (
            f"{len(only)} are only in one of them: {', '.join(only[:MAX_LISTED])}"
            if only
            else "same names in a different order"
        )
        raise EvaluationError(f"{first.name} and {second.name} use different class lists ({difference})")
    unpaired = sorted(path for path, _ in first.videos.keys() ^ second.videos.keys())
    if unpaired:
        raise EvaluationError(
            f"{first.name} and {second.name} are different lists: {len(unpaired)} videos are only in one of them "
            f"({', '.join(unpaired[:MAX_LISTED])})"
        )
    mismatched = [
        path for (path, number), video in first.videos.items() if _labels_differ(video, second.videos[path, number])
    ]
    if mismatched:
        raise EvaluationError(
            f"{len(mismatched)} videos have different labels in {first.name} and {second.name} "
            f"({', '.join(mismatched[:MAX_LISTED])})"
        )


def _labels_differ(one: StoredVideo, other: StoredVideo) -> bool:
    """Return whether both videos have a label and the labels differ."""
    return None not in (one.label, other.label) and one.label != other.label


def _ranks(videos: Sequence[StoredVideo]) -> Int64Array:
    return np.array([video.rank for video in videos], np.int64)


def _difference(first: NDArray[np.bool_], second: NDArray[np.bool_], groups: Int64Array) -> MetricDifference:
    difference, interval = accuracy_difference_interval(second, first, groups)
    return MetricDifference(
        first=float(first.mean()), second=float(second.mean()), difference=difference, interval=interval
    )


def _class_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], labels: Int64Array, groups: Int64Array
) -> MetricDifference:
    one, other = mean_class_accuracy(first, labels), mean_class_accuracy(second, labels)
    _, interval = class_accuracy_difference_interval(second, first, labels, groups)
    return MetricDifference(first=one, second=other, difference=other - one, interval=interval)


def _class_changes(
    hits: tuple[NDArray[np.bool_], NDArray[np.bool_]], labels: Int64Array, names: Sequence[str]
) -> tuple[ClassChange, ...]:
    """Return the classes that have videos, in descending order of the difference."""
    counts = np.bincount(labels, minlength=len(names))
    first, second = (class_accuracies(each, labels, len(names)) for each in hits)
    gained = np.bincount(labels[hits[1] & ~hits[0]], minlength=len(names))
    lost = np.bincount(labels[hits[0] & ~hits[1]], minlength=len(names))
    changes = [
        ClassChange(
            name=names[index],
            count=int(counts[index]),
            first=float(first[index]),
            second=float(second[index]),
            gained=int(gained[index]),
            lost=int(lost[index]),
        )
        for index in np.flatnonzero(counts).tolist()
    ]
    return tuple(sorted(changes, key=lambda item: (item.first - item.second, item.name)))
