"""Two results on the same videos, compared in pairs: what one model got right and the other did not."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Int64Array
from serve.independence import independence, independent_groups
from training.evaluation.accumulator import TOP
from training.evaluation.bootstrap import mcnemar
from training.evaluation.errors import EvaluationError
from training.evaluation.metrics import class_accuracies, mean_class_accuracy
from training.evaluation.score_intervals import (
    CONFIDENCE,
    Interval,
    class_difference_interval,
    paired_share_interval,
)
from training.evaluation.stored_results import StoredResult, StoredSplit, StoredVideo

SCHEMA, VERSION = "actserve-comparison", 2
SHOWN = 5  # videos named in a message

Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class MetricDifference:
    """A figure of both, and how much larger the second is."""

    first: float
    second: float
    difference: float
    interval: Interval  # 95 %, of the difference


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """A class under both."""

    name: str
    count: int
    first: float  # top-1
    second: float
    gained: int  # videos the second alone got right
    lost: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Over the videos both could read."""

    name: str
    num_videos: int
    num_independent: int  # groups of videos that do not depend on each other
    num_unreadable: int  # by one or both: left out of the pairs
    top5_k: int
    figures: Mapping[str, MetricDifference]
    gained: int  # videos the second alone got right
    lost: int
    mcnemar_p: float
    classes: tuple[ClassChange, ...]  # most gained first


def compare(first: StoredResult, second: StoredResult) -> tuple[Comparison, ...]:
    """Compare each split of two results with its counterpart.

    Raises:
        EvaluationError: they are not of the same videos, labels and class names, or no video was read by both.
    """
    if len(first.splits) != len(second.splits):
        raise EvaluationError(
            f"{first.file} holds {len(first.splits)} splits, {second.file} {len(second.splits)}: "
            "only results of the same lists can be compared"
        )
    return tuple(_compared(one, other) for one, other in zip(first.splits, second.splits, strict=True))


def comparison_document(first: StoredResult, second: StoredResult, compared: Sequence[Comparison]) -> dict[str, Any]:
    """A comparison as plain JSON values."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "first": first.checkpoint,
        "second": second.checkpoint,
        "is_same_protocol": first.protocol == second.protocol,
        "confidence": CONFIDENCE,
        "splits": [asdict(item) for item in compared],
    }


def comparison_summary(content: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a comparison in one line: only the classes that changed most."""
    splits = [
        {
            **{key: value for key, value in split.items() if key != "classes"},
            "most_gained": [_change(item) for item in split["classes"][:SHOWN] if item["second"] > item["first"]],
            "most_lost": [_change(item) for item in split["classes"][::-1][:SHOWN] if item["second"] < item["first"]],
        }
        for split in content["splits"]
    ]
    return {**content, "splits": splits}


def _change(item: Mapping[str, Any]) -> list[Any]:
    return [item["name"], round(item["second"] - item["first"], 4)]


def _compared(first: StoredSplit, second: StoredSplit) -> Comparison:
    _require_same(first, second)
    pairs = [(key[0], video, second.videos[key]) for key, video in first.videos.items()]
    readable = [pair for pair in pairs if pair[1].rank is not None and pair[2].rank is not None]
    both = [(one, other) for _, one, other in readable]
    if not both:
        raise EvaluationError(f"{first.name}: no video was read in both results")
    number_of = {name: number for number, name in enumerate(first.class_names)}
    labels = np.array([number_of[str(one.label)] for one, _ in both], np.int64)
    groups = independent_groups(
        names=[path for path, _, _ in readable],
        digests=[one.digest for _, one, _ in readable],
        declared=[one.group for _, one, _ in readable],
    )
    ranks = _ranks([one for one, _ in both]), _ranks([other for _, other in both])
    hits, k = (ranks[0] == 1, ranks[1] == 1), min(TOP, len(first.class_names))
    classes = _changes(hits, labels, first.class_names)
    return Comparison(
        name=first.name,
        num_videos=len(both),
        num_independent=independence(groups).num_independent,
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


def _require_same(first: StoredSplit, second: StoredSplit) -> None:
    if first.class_names != second.class_names:
        only = sorted(set(first.class_names) ^ set(second.class_names))
        difference = (
            f"{len(only)} in one alone: {', '.join(only[:SHOWN])}" if only else "the same names in another order"
        )
        raise EvaluationError(
            f"{first.name} and {second.name} are classified among different class lists ({difference})"
        )
    alone = sorted(path for path, _ in first.videos.keys() ^ second.videos.keys())
    if alone:
        raise EvaluationError(
            f"{first.name} and {second.name} are different lists: {len(alone)} videos are in one alone "
            f"({', '.join(alone[:SHOWN])})"
        )
    other = [path for (path, number), video in first.videos.items() if _is_other(video, second.videos[path, number])]
    if other:
        raise EvaluationError(
            f"{first.name} and {second.name} give {len(other)} videos different labels ({', '.join(other[:SHOWN])})"
        )


def _is_other(one: StoredVideo, other: StoredVideo) -> bool:
    """Both know the label, and it is not the same one."""
    return None not in (one.label, other.label) and one.label != other.label


def _ranks(videos: Sequence[StoredVideo]) -> Int64Array:
    return np.array([video.rank for video in videos], np.int64)


def _difference(first: NDArray[np.bool_], second: NDArray[np.bool_], groups: Int64Array) -> MetricDifference:
    difference, interval = paired_share_interval(second, first, groups)
    return MetricDifference(
        first=float(first.mean()), second=float(second.mean()), difference=difference, interval=interval
    )


def _class_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], labels: Int64Array, groups: Int64Array
) -> MetricDifference:
    one, other = mean_class_accuracy(first, labels), mean_class_accuracy(second, labels)
    _, interval = class_difference_interval(second, first, labels, groups)
    return MetricDifference(first=one, second=other, difference=other - one, interval=interval)


def _changes(
    hits: tuple[NDArray[np.bool_], NDArray[np.bool_]], labels: Int64Array, names: Sequence[str]
) -> tuple[ClassChange, ...]:
    """Classes that have videos, from the one that gained most to the one that lost most."""
    counts = np.bincount(labels, minlength=len(names))
    first, second = (class_accuracies(each, labels, len(names)) for each in hits)
    gained = np.bincount(labels[hits[1] & ~hits[0]], minlength=len(names))
    lost = np.bincount(labels[hits[0] & ~hits[1]], minlength=len(names))
    changes = [
        ClassChange(
            name=names[number],
            count=int(counts[number]),
            first=float(first[number]),
            second=float(second[number]),
            gained=int(gained[number]),
            lost=int(lost[number]),
        )
        for number in np.flatnonzero(counts).tolist()
    ]
    return tuple(sorted(changes, key=lambda item: (item.first - item.second, item.name)))
