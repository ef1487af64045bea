"""Collect the results of videos from one or several processes and compute metrics over them.

Each process has its own accumulator. Accumulators are small and can be pickled. They are merged and sorted by the
index of videos in the list, so the metrics do not depend on the number of processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from serve.arrays import Float32Array, Float64Array, Int64Array
from serve.calibration_statistics import ReliabilityBin, reliability_bins
from serve.independence import assign_groups, count_groups
from serve.scoring import Scores, top_k
from training.distributed import all_gather_objects
from training.evaluation.bootstrap import mean_interval
from training.evaluation.errors import EvaluationError
from training.evaluation.metrics import (
    class_accuracies,
    confusion_counts,
    expected_calibration_error,
    mean_class_accuracy,
    negative_log_likelihoods,
)
from training.evaluation.score_intervals import Interval, accuracy_interval, class_accuracy_interval

MIN_GROUPS = 5  # independent groups required for a bootstrap of the log-likelihood
TOP_K = 5  # number of predictions stored per video, and k of the top-5 accuracy


@dataclass(frozen=True, kw_only=True)
class ScoredVideo:
    """The scores of one readable video."""

    index: int  # of the video in the list
    path: str
    label: int
    rank: int  # 0-based rank of the label's score
    label_probability: float
    top: tuple[int, ...]  # the `TOP_K` most probable classes, in descending order
    top_probabilities: tuple[float, ...]
    margin: float  # probability of the label minus the highest other probability; negative if the prediction is wrong
    scores: Float32Array | None = field(default=None, compare=False)  # of every class [K]; None if not requested
    digest: str = ""  # SHA-256 of the content
    group: str = ""  # declared in the list; videos of one group are dependent


@dataclass(frozen=True, kw_only=True)
class UnreadableVideo:
    """One video that could not be read."""

    index: int
    path: str
    label: int  # -1 if unknown
    reason: str
    group: str = ""  # declared in the list


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """Results of one class."""

    number: int
    count: int  # readable videos
    unreadable: int
    top1: float | None  # None without readable videos
    confused_with: int | None  # the class most often predicted instead; None without errors
    confused_count: int


@dataclass(frozen=True, kw_only=True)
class EvaluationMetrics:
    """Metrics over the readable videos, except `top1_all`, which counts unreadable videos as errors."""

    num_videos: int  # in the list
    num_readable: int
    num_unreadable: int
    num_independent: int  # readable videos, counting each group of dependent videos once
    num_copies: int  # readable videos with the same content as an earlier one
    top1: float
    top5: float  # top-k accuracy with k = `top5_k`
    top5_k: int  # 5, or K if there are fewer classes
    top1_all: float
    mean_class_accuracy: float  # over the classes that have readable videos
    num_classes_seen: int  # number of classes with at least one readable video
    calibration_error: float
    negative_log_likelihood: float | None  # None for sigmoid scores, which do not sum to one
    bins: tuple[ReliabilityBin, ...]
    classes: tuple[ClassMetrics, ...]


def score_video(
    scores: Scores, *, index: int, path: str, label: int, keep_scores: bool = False, digest: str = "", group: str = ""
) -> ScoredVideo:
    """Return the result of a video from its scores; ties are ordered as in serving.

    Raises:
        ValueError: there are only logits, no scores.
        EvaluationError: the scores are not finite.
    """
    if scores.scores is None:
        raise ValueError("an activation is required to convert logits to scores")
    if not np.isfinite(scores.scores).all():
        raise EvaluationError(f"{path or f'video {index}'}: the model's scores are not finite")
    order, probabilities = top_k(scores, len(scores.scores)), scores.scores
    rank = int(np.flatnonzero(order == label)[0])
    best_other = order[1 if rank == 0 else 0] if len(order) > 1 else None
    label_probability = float(probabilities[label])
    return ScoredVideo(
        index=index,
        path=path,
        label=label,
        rank=rank,
        label_probability=label_probability,
        top=tuple(order[:TOP_K].tolist()),
        top_probabilities=tuple(probabilities[order[:TOP_K]].tolist()),
        margin=label_probability - (float(probabilities[best_other]) if best_other is not None else 0.0),
        scores=probabilities.copy() if keep_scores else None,
        digest=digest,
        group=group,
    )


class MetricAccumulator:
    """Collects the results of videos; each video can be added once."""

    def __init__(self, num_classes: int, *, is_distribution: bool = True) -> None:
        self.num_classes = num_classes
        self.is_distribution = is_distribution  # whether the scores of a video sum to one (softmax)
        self._readable: dict[int, ScoredVideo] = {}
        self._unreadable: dict[int, UnreadableVideo] = {}

    def add(self, video: ScoredVideo | UnreadableVideo) -> None:
        """Add one video.

        Raises:
            ValueError: the video was already added, or its label is out of range.
        """
        if video.index in self._readable or video.index in self._unreadable:
            raise ValueError(f"video {video.index} ({video.path}) was already added")
        if not (-1 if isinstance(video, UnreadableVideo) else 0) <= video.label < self.num_classes:
            raise ValueError(f"{video.path}: the label must be less than {self.num_classes}, got {video.label}")
        if isinstance(video, UnreadableVideo):
            self._unreadable[video.index] = video
        else:
            self._readable[video.index] = video

    def merge(self, other: "MetricAccumulator") -> None:
        """Add the videos of another accumulator of the same list.

        Raises:
            ValueError: a video is in both accumulators, or they differ in `num_classes` or `is_distribution`.
        """
        if (other.num_classes, other.is_distribution) != (self.num_classes, self.is_distribution):
            raise ValueError(
                "cannot merge accumulators of different evaluations: "
                f"{self.num_classes} and {other.num_classes} classes, "
                f"is_distribution {self.is_distribution} and {other.is_distribution}"
            )
        videos: tuple[ScoredVideo | UnreadableVideo, ...] = (*other.readable, *other.unreadable)
        for video in videos:
            self.add(video)

    @property
    def readable(self) -> tuple[ScoredVideo, ...]:
        """Readable videos in list order."""
        return tuple(video for _, video in sorted(self._readable.items()))

    @property
    def unreadable(self) -> tuple[UnreadableVideo, ...]:
        """Unreadable videos in list order."""
        return tuple(video for _, video in sorted(self._unreadable.items()))

    def compute(self) -> EvaluationMetrics:
        """Compute all metrics.

        Raises:
            EvaluationError: no video could be read.
        """
        videos, unreadable = self._require_readable(), self.unreadable
        ranks, labels = _ranks(videos), _labels(videos)
        hits, confidences = ranks == 0, _confidences(videos)
        label_probabilities = np.array([video.label_probability for video in videos])
        independent = count_groups(_groups(videos), digests=[video.digest for video in videos])
        return EvaluationMetrics(
            num_videos=len(videos) + len(unreadable),
            num_readable=len(videos),
            num_unreadable=len(unreadable),
            num_independent=independent.num_independent,
            num_copies=independent.num_copies,
            top1=float(hits.mean()),
            top5=float((ranks < self.top5_k).mean()),
            top5_k=self.top5_k,
            top1_all=float(hits.sum() / (len(videos) + len(unreadable))),
            mean_class_accuracy=mean_class_accuracy(hits, labels),
            num_classes_seen=len(np.unique(labels)),
            calibration_error=expected_calibration_error(confidences, hits),
            negative_log_likelihood=(
                float(negative_log_likelihoods(label_probabilities).mean()) if self.is_distribution else None
            ),
            bins=reliability_bins(confidences, hits),
            classes=self._classes(videos),
        )

    def intervals(self) -> dict[str, Interval]:
        """Compute 95 % intervals, keyed by field of `EvaluationMetrics`.

        Accuracies have score intervals, the log-likelihood has a bootstrap interval. Dependent videos count as one.

        The calibration error has no interval: resampling increases it, so a bootstrap interval would be biased. The
        log-likelihood has none with fewer than `MIN_GROUPS` groups, because the bootstrap interval would be too narrow.

        Raises:
            EvaluationError: no video could be read.
        """
        videos = self._require_readable()
        ranks, labels, groups = _ranks(videos), _labels(videos), _groups(videos)
        hits, unreadable = ranks == 0, self.unreadable
        intervals = {
            "top1": accuracy_interval(hits, groups),
            "top5": accuracy_interval(ranks < self.top5_k, groups),
            "top1_all": accuracy_interval(
                np.concatenate((hits, np.zeros(len(unreadable), np.bool_))), _groups((*videos, *unreadable))
            ),
            "mean_class_accuracy": class_accuracy_interval(hits, labels, groups),
        }
        if self.is_distribution and len(np.unique(groups)) >= MIN_GROUPS:
            losses = negative_log_likelihoods(np.array([video.label_probability for video in videos]))
            intervals["negative_log_likelihood"] = mean_interval(losses, groups)
        return intervals

    def confusion(self) -> Int64Array:
        """Return the number of readable videos of class i predicted as class j [K, K]."""
        return confusion_counts(_labels(self.readable), _predictions(self.readable), self.num_classes)

    def ranks(self) -> Int64Array:
        """Return the 0-based rank of each readable video's label [N], in list order."""
        return _ranks(self.readable)

    @property
    def top5_k(self) -> int:
        """k of the top-5 accuracy: 5, or K if there are fewer classes."""
        return min(TOP_K, self.num_classes)

    def _require_readable(self) -> tuple[ScoredVideo, ...]:
        videos = self.readable
        if not videos:
            first_reasons = "; ".join(f"{item.path}: {item.reason}" for item in self.unreadable[:3])
            raise EvaluationError(
                f"none of the {len(self._unreadable)} videos can be read"
                + (f" ({first_reasons})" if first_reasons else "")
            )
        return videos

    def _classes(self, videos: Sequence[ScoredVideo]) -> tuple[ClassMetrics, ...]:
        labels, hits = _labels(videos), _ranks(videos) == 0
        accuracies = class_accuracies(hits, labels, self.num_classes)
        counts = np.bincount(labels, minlength=self.num_classes).tolist()
        known_labels = [item.label for item in self.unreadable if item.label >= 0]
        unreadable = np.bincount(np.array(known_labels, np.int64), minlength=self.num_classes).tolist()
        errors = self.confusion()
        np.fill_diagonal(errors, 0)
        return tuple(
            ClassMetrics(
                number=number,
                count=counts[number],
                unreadable=unreadable[number],
                top1=float(accuracies[number]) if counts[number] else None,
                confused_with=int(confusions.argmax()) if confusions.any() else None,
                confused_count=int(confusions.max()),
            )
            for number, confusions in enumerate(errors)
        )


def gather_accumulators(accumulators: Sequence[MetricAccumulator]) -> list[MetricAccumulator]:
    """Gather the accumulators of all processes and merge them; every process gets the result.

    Raises:
        ValueError: two processes added the same video.
    """
    gathered = all_gather_objects(list(accumulators))
    merged = gathered[: len(accumulators)]
    for index, accumulator in enumerate(gathered[len(accumulators) :]):
        merged[index % len(accumulators)].merge(accumulator)
    return merged


def _ranks(videos: Sequence[ScoredVideo]) -> Int64Array:
    return np.array([video.rank for video in videos], np.int64)


def _labels(videos: Sequence[ScoredVideo]) -> Int64Array:
    return np.array([video.label for video in videos], np.int64)


def _predictions(videos: Sequence[ScoredVideo]) -> Int64Array:
    return np.array([video.top[0] for video in videos], np.int64)


def _confidences(videos: Sequence[ScoredVideo]) -> Float64Array:
    return np.array([video.top_probabilities[0] for video in videos], np.float64)


def _groups(videos: Sequence[ScoredVideo | UnreadableVideo]) -> Int64Array:
    """Return the group of each video [N]: those with equal content, source name or declared group are dependent."""
    return assign_groups(
        names=[video.path for video in videos],
        digests=[video.digest if isinstance(video, ScoredVideo) else None for video in videos],
        declared=[video.group for video in videos],
    )
