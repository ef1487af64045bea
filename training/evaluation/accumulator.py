"""What was found for each video, collected by one process or by several, and the figures of it all.

Each rank has its own accumulator; accumulators are small, can be pickled, and are merged by the
index of videos in the list. Metrics are computed in that order, so the number of ranks does not change them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from serve.arrays import Float32Array, Float64Array, Int64Array
from serve.calibration_statistics import Bin, reliability
from serve.independence import independence, independent_groups
from serve.scoring import Scores, top_k
from training.distributed import all_gather_objects
from training.evaluation.bootstrap import mean_interval
from training.evaluation.errors import EvaluationError
from training.evaluation.metrics import (
    class_accuracies,
    confusion,
    expected_calibration_error,
    mean_class_accuracy,
    negative_log_likelihoods,
)
from training.evaluation.score_intervals import Interval, class_share_interval, share_interval

LEAST_GROUPS = 5  # that a bootstrap of the log-likelihood needs
TOP = 5  # labels kept of each video, and the larger k of the top-k figures


@dataclass(frozen=True, kw_only=True)
class ScoredVideo:
    """One video that was read, and what the model made of it."""

    index: int  # place in the list
    path: str
    label: int
    rank: int  # of the label, 0 the best
    label_probability: float
    top: tuple[int, ...]  # the best classes, best first
    top_probabilities: tuple[float, ...]
    margin: float  # probability of the label less the best of the others; below 0 where another is better
    scores: Float32Array | None = field(default=None, compare=False)  # of every class [K], where they are kept
    digest: str = ""  # SHA-256 of the content
    group: str = ""  # the group its list declares


@dataclass(frozen=True, kw_only=True)
class UnreadableVideo:
    """One video that could not be read."""

    index: int
    path: str
    label: int  # -1 where not even that is known
    reason: str
    group: str = ""  # the group its list declares


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One class."""

    number: int
    count: int  # readable videos
    unreadable: int
    top1: float | None  # None without readable videos
    confused_with: int | None  # the class its misses were most often taken for
    confused_count: int


@dataclass(frozen=True, kw_only=True)
class EvaluationMetrics:
    """Over the readable videos, but for `top1_all`, where an unreadable one is a miss."""

    num_videos: int  # in the list
    num_readable: int
    num_unreadable: int
    num_independent: int  # groups of readable videos that do not depend on each other
    num_copies: int  # readable videos whose content another one before them has
    top1: float
    top5: float  # among the `top5_k` best
    top5_k: int  # 5, or K where there are fewer classes
    top1_all: float
    mean_class_accuracy: float  # over the classes that have readable videos
    num_classes_seen: int
    calibration_error: float
    negative_log_likelihood: float | None  # None under sigmoid, where probabilities of classes do not compete
    bins: tuple[Bin, ...]
    classes: tuple[ClassMetrics, ...]


def score_video(
    scores: Scores, *, index: int, path: str, label: int, keep_scores: bool = False, digest: str = "", group: str = ""
) -> ScoredVideo:
    """The row of a video from its scores, ordered as serving orders them.

    Raises:
        ValueError: the scores are no probabilities.
        EvaluationError: they are not finite.
    """
    if scores.scores is None:
        raise ValueError("logits alone make no row: an activation is needed")
    if not np.isfinite(scores.scores).all():
        raise EvaluationError(f"{path or f'video {index}'}: the model's scores are not finite, so nothing is measured")
    order, probabilities = top_k(scores, len(scores.scores)), scores.scores
    rank = int(np.flatnonzero(order == label)[0])
    rival = order[1 if rank == 0 else 0] if len(order) > 1 else None
    own = float(probabilities[label])
    return ScoredVideo(
        index=index,
        path=path,
        label=label,
        rank=rank,
        label_probability=own,
        top=tuple(order[:TOP].tolist()),
        top_probabilities=tuple(probabilities[order[:TOP]].tolist()),
        margin=own - (float(probabilities[rival]) if rival is not None else 0.0),
        scores=probabilities.copy() if keep_scores else None,
        digest=digest,
        group=group,
    )


class MetricAccumulator:
    """Rows of videos, each at most once."""

    def __init__(self, num_classes: int, *, is_distribution: bool = True) -> None:
        self.num_classes = num_classes
        self.is_distribution = is_distribution  # probabilities of a video sum to one (softmax)
        self._rows: dict[int, ScoredVideo] = {}
        self._unreadable: dict[int, UnreadableVideo] = {}

    def add(self, row: ScoredVideo | UnreadableVideo) -> None:
        """Note one video.

        Raises:
            ValueError: it was counted before, or its label is no class.
        """
        if row.index in self._rows or row.index in self._unreadable:
            raise ValueError(f"video {row.index} ({row.path}) is counted twice")
        if not (-1 if isinstance(row, UnreadableVideo) else 0) <= row.label < self.num_classes:
            raise ValueError(f"{row.path}: label {row.label} lies outside the {self.num_classes} classes")
        if isinstance(row, UnreadableVideo):
            self._unreadable[row.index] = row
        else:
            self._rows[row.index] = row

    def merge(self, other: "MetricAccumulator") -> None:
        """Take over the rows of another accumulator of the same list.

        Raises:
            ValueError: a video is in both, or the other's classes are not these.
        """
        if (other.num_classes, other.is_distribution) != (self.num_classes, self.is_distribution):
            raise ValueError(f"accumulators of {self.num_classes} and {other.num_classes} classes do not go together")
        rows: tuple[ScoredVideo | UnreadableVideo, ...] = (*other.rows, *other.unreadable)
        for row in rows:
            self.add(row)

    @property
    def rows(self) -> tuple[ScoredVideo, ...]:
        """Readable videos in the order of the list."""
        return tuple(row for _, row in sorted(self._rows.items()))

    @property
    def unreadable(self) -> tuple[UnreadableVideo, ...]:
        """The others in the order of the list."""
        return tuple(row for _, row in sorted(self._unreadable.items()))

    def figures(self) -> EvaluationMetrics:
        """All figures.

        Raises:
            EvaluationError: no video could be read.
        """
        rows, lost = self._readable_rows(), self.unreadable
        ranks, labels = _ranks(rows), _labels(rows)
        hits, confidences = ranks == 0, _confidences(rows)
        own = np.array([row.label_probability for row in rows])
        independent = independence(_groups(rows), digests=[row.digest for row in rows])
        return EvaluationMetrics(
            num_videos=len(rows) + len(lost),
            num_readable=len(rows),
            num_unreadable=len(lost),
            num_independent=independent.num_independent,
            num_copies=independent.num_copies,
            top1=float(hits.mean()),
            top5=float((ranks < self.top5_k).mean()),
            top5_k=self.top5_k,
            top1_all=float(hits.sum() / (len(rows) + len(lost))),
            mean_class_accuracy=mean_class_accuracy(hits, labels),
            num_classes_seen=len(np.unique(labels)),
            calibration_error=expected_calibration_error(confidences, hits),
            negative_log_likelihood=float(negative_log_likelihoods(own).mean()) if self.is_distribution else None,
            bins=reliability(confidences, hits),
            classes=self._classes(rows),
        )

    def intervals(self) -> dict[str, Interval]:
        """95 % intervals by field of `EvaluationMetrics`: score intervals of shares, bootstrap of log-likelihoods.

        Videos that depend on each other count as one group. The calibration error has no interval: it
        is a sum of distances, which drawing again makes larger, not just uncertain. Neither has the log-likelihood of
        fewer than `LEAST_GROUPS` groups, whose bootstrap is too narrow.

        Raises:
            EvaluationError: no video could be read.
        """
        rows = self._readable_rows()
        ranks, labels, groups = _ranks(rows), _labels(rows), _groups(rows)
        hits, lost = ranks == 0, self.unreadable
        found = {
            "top1": share_interval(hits, groups),
            "top5": share_interval(ranks < self.top5_k, groups),
            "top1_all": share_interval(np.concatenate((hits, np.zeros(len(lost), np.bool_))), _groups((*rows, *lost))),
            "mean_class_accuracy": class_share_interval(hits, labels, groups),
        }
        if self.is_distribution and len(np.unique(groups)) >= LEAST_GROUPS:
            losses = negative_log_likelihoods(np.array([row.label_probability for row in rows]))
            found["negative_log_likelihood"] = mean_interval(losses, groups)
        return found

    def confusion(self) -> Int64Array:
        """How many readable videos of class i were taken for class j [K, K]."""
        return confusion(_labels(self.rows), _predictions(self.rows), self.num_classes)

    def ranks(self) -> Int64Array:
        """Rank of each readable video's label, in the order of the list."""
        return _ranks(self.rows)

    @property
    def top5_k(self) -> int:
        """5, or K where there are fewer classes."""
        return min(TOP, self.num_classes)

    def _readable_rows(self) -> tuple[ScoredVideo, ...]:
        rows = self.rows
        if not rows:
            first_reasons = "; ".join(f"{item.path}: {item.reason}" for item in self.unreadable[:3])
            raise EvaluationError(
                f"none of {len(self._unreadable)} videos can be read" + (f" ({first_reasons})" if first_reasons else "")
            )
        return rows

    def _classes(self, rows: Sequence[ScoredVideo]) -> tuple[ClassMetrics, ...]:
        labels, hits = _labels(rows), _ranks(rows) == 0
        accuracies = class_accuracies(hits, labels, self.num_classes)
        counts = np.bincount(labels, minlength=self.num_classes).tolist()
        lost = [item.label for item in self.unreadable if item.label >= 0]
        unreadable = np.bincount(np.array(lost, np.int64), minlength=self.num_classes).tolist()
        mistaken = self.confusion()
        np.fill_diagonal(mistaken, 0)
        return tuple(
            ClassMetrics(
                number=number,
                count=counts[number],
                unreadable=unreadable[number],
                top1=float(accuracies[number]) if counts[number] else None,
                confused_with=int(row.argmax()) if row.any() else None,
                confused_count=int(row.max()),
            )
            for number, row in enumerate(mistaken)
        )


def merge_ranks(accumulators: Sequence[MetricAccumulator]) -> list[MetricAccumulator]:
    """The accumulators of every process as one: every process has them all.

    Raises:
        ValueError: a video was counted by two.
    """
    together = all_gather_objects(list(accumulators))
    found = together[: len(accumulators)]
    for place, accumulator in enumerate(together[len(accumulators) :]):
        found[place % len(accumulators)].merge(accumulator)
    return found


def _ranks(rows: Sequence[ScoredVideo]) -> Int64Array:
    return np.array([row.rank for row in rows], np.int64)


def _labels(rows: Sequence[ScoredVideo]) -> Int64Array:
    return np.array([row.label for row in rows], np.int64)


def _predictions(rows: Sequence[ScoredVideo]) -> Int64Array:
    return np.array([row.top[0] for row in rows], np.int64)


def _confidences(rows: Sequence[ScoredVideo]) -> Float64Array:
    return np.array([row.top_probabilities[0] for row in rows], np.float64)


def _groups(rows: Sequence[ScoredVideo | UnreadableVideo]) -> Int64Array:
    """Group of each video [N]: videos of one content, one name of a source or one declared group are dependent."""
    return independent_groups(
        names=[row.path for row in rows],
        digests=[row.digest if isinstance(row, ScoredVideo) else None for row in rows],
        declared=[row.group for row in rows],
    )
