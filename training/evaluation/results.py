"""Write the result of an evaluation to a file: checkpoint, protocol, metrics, and one row per video.

The file is a JSON document with a schema name and a schema version, so that readers can check the format.
"""

import hashlib
import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from serve.calibration_statistics import NUM_BINS
from serve.files import atomic_write, write_atomically
from training.evaluation.accumulator import EvaluationMetrics, MetricAccumulator
from training.evaluation.bootstrap import NUM_RESAMPLES
from training.evaluation.errors import EvaluationError
from training.evaluation.score_intervals import CONFIDENCE_LEVEL, Interval
from training.evaluation.zero_shot import Disjointness

SCHEMA, VERSION = "actserve-evaluation", 1
METRIC_NAMES = ("top1", "top5", "top1_all", "mean_class_accuracy", "calibration_error", "negative_log_likelihood")


@dataclass(frozen=True, kw_only=True)
class CheckpointIdentity:
    """Identity of the evaluated weights."""

    file: str
    sha256: str
    family: str
    step: int | None = None  # optimiser steps; None if unknown
    run: str = ""  # output folder of the training run; empty if unknown
    few_shot: Mapping[str, int] = field(default_factory=dict)  # shots and seed of the training list, if recorded


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """Result of one split of a benchmark, of one list, or of a subset of its classes."""

    name: str
    list: str
    list_sha256: str | None
    class_names: tuple[str, ...]
    metrics: EvaluationMetrics
    intervals: Mapping[str, Interval]
    accumulator: MetricAccumulator
    class_overlap: Disjointness | None = None  # comparison with the classes of the training data


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Result of an evaluation."""

    checkpoint: CheckpointIdentity
    protocol: Mapping[str, Any]
    splits: tuple[SplitResult, ...]

    def over_splits(self) -> dict[str, tuple[float, float]]:
        """Return (mean, standard deviation) of each metric over the splits; empty for a single split."""
        if len(self.splits) < 2:
            return {}
        values = {name: [getattr(split.metrics, name) for split in self.splits] for name in METRIC_NAMES}
        return {name: (fmean(items), stdev(items)) for name, items in values.items() if None not in items}


def make_split_result(
    accumulator: MetricAccumulator,
    class_names: Sequence[str],
    *,
    name: str,
    path: str,
    sha256: str | None,
    class_overlap: Disjointness | None,
) -> SplitResult:
    """Compute the metrics and intervals of an accumulator.

    Raises:
        EvaluationError: no video could be read.
    """
    return SplitResult(
        name=name,
        list=path,
        list_sha256=sha256,
        class_names=tuple(class_names),
        metrics=accumulator.compute(),
        intervals=accumulator.intervals(),
        accumulator=accumulator,
        class_overlap=class_overlap,
    )


def class_names_sha256(names: Sequence[str]) -> str:
    """Return the SHA-256 of the names in order."""
    return hashlib.sha256(json.dumps(list(names), ensure_ascii=False).encode()).hexdigest()


def result_document(result: EvaluationResult) -> dict[str, Any]:
    """Return a result as plain JSON values."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "checkpoint": asdict(result.checkpoint),
        "protocol": dict(result.protocol),
        "intervals": {
            "confidence": CONFIDENCE_LEVEL,
            "shares": "wilson",
            "negative_log_likelihood": f"bootstrap of {NUM_RESAMPLES}",
        },
        "calibration_bins": NUM_BINS,
        "over_splits": {
            name: {"mean": mean, "standard_deviation": deviation}
            for name, (mean, deviation) in result.over_splits().items()
        },
        "splits": [_split_document(split) for split in result.splits],
    }


def result_summary(result: EvaluationResult) -> dict[str, Any]:
    """Return the metrics of a result without the videos, for the JSON summary on standard output."""
    return {
        "checkpoint": result.checkpoint.file,
        "sha256": result.checkpoint.sha256,
        "step": result.checkpoint.step,
        "views": f"{result.protocol['num_clips']}x{result.protocol['num_crops']}",
        "view_rule": result.protocol["scoring"]["view_rule"],
        "templates": len(result.protocol["text"]["templates"]),
        "splits": [
            {
                "name": split.name,
                "videos": split.metrics.num_videos,
                "unreadable": split.metrics.num_unreadable,
                "independent": split.metrics.num_independent,
                "copies": split.metrics.num_copies,
                "classes": len(split.class_names),
                **{_key(name, split.metrics.top5_k): _rounded(getattr(split.metrics, name)) for name in METRIC_NAMES},
                "top1_interval": [_rounded(bound) for bound in split.intervals["top1"]],
            }
            for split in result.splits
        ],
        "over_splits": {
            _key(name, min(split.metrics.top5_k for split in result.splits)): {
                "mean": _rounded(mean),
                "standard_deviation": _rounded(deviation),
            }
            for name, (mean, deviation) in result.over_splits().items()
        },
    }


def _key(name: str, k: int) -> str:
    """Return the key of a metric in the summary; for `top5` it contains the k that was used."""
    return f"top{k}" if name == "top5" else name


def require_writable(folder: Path) -> None:
    """Create a folder and check that files can be written to it, before a long evaluation starts.

    Raises:
        EvaluationError: the folder cannot be created or is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EvaluationError(f"cannot write to the folder {folder}: {error.strerror}") from error


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically.

    Raises:
        EvaluationError: the file cannot be written.
    """
    try:
        write_atomically(path, json.dumps(content, allow_nan=False) + "\n")
    except OSError as error:
        raise EvaluationError(f"cannot write {path}: {error.strerror}") from error


def write_scores(path: Path, result: EvaluationResult) -> Path:
    """Write the scores of every readable video next to the result file: `result.json` -> `result.scores.npz`.

    The arrays of split i are `i/scores` float32 [N, K], `i/labels` [N], `i/paths` [N] and `i/classes` [K].

    Raises:
        EvaluationError: the file cannot be written.
    """
    arrays: dict[str, Any] = {}
    for number, split in enumerate(result.splits):
        videos = split.accumulator.readable
        arrays[f"{number}/scores"] = np.stack([video.scores for video in videos if video.scores is not None])
        arrays[f"{number}/labels"] = np.array([video.label for video in videos], np.int64)
        arrays[f"{number}/paths"] = np.array([video.path for video in videos])
        arrays[f"{number}/classes"] = np.array(split.class_names)
    target = path.with_name(f"{path.stem}.scores.npz")
    try:
        with atomic_write(target) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
    except OSError as error:
        raise EvaluationError(f"cannot write {target}: {error.strerror}") from error
    return target


def _split_document(split: SplitResult) -> dict[str, Any]:
    names = split.class_names
    metrics = asdict(split.metrics)
    return {
        "name": split.name,
        "list": split.list,
        "list_sha256": split.list_sha256,
        "class_names": list(names),
        "class_names_sha256": class_names_sha256(names),
        "zero_shot": asdict(split.class_overlap) if split.class_overlap else None,
        "figures": {name: value for name, value in metrics.items() if name not in ("bins", "classes")},
        "intervals": {name: list(interval) for name, interval in split.intervals.items()},
        "reliability": metrics["bins"],
        "classes": [
            {
                **item,
                "name": names[item["number"]],
                "confused_with": None if item["confused_with"] is None else names[item["confused_with"]],
            }
            for item in metrics["classes"]
        ],
        "videos": [
            {
                "index": video.index,
                "path": video.path,
                "label": names[video.label],
                "rank": video.rank + 1,  # 1-based in the file
                "sha256": video.digest or None,
                "group": video.group or None,
                "margin": video.margin,
                "label_probability": video.label_probability,
                "top": [[names[k], p] for k, p in zip(video.top, video.top_probabilities, strict=True)],
            }
            for video in split.accumulator.readable
        ],
        "unreadable": [
            {
                "index": video.index,
                "path": video.path,
                "label": names[video.label] if video.label >= 0 else None,
                "reason": video.reason,
            }
            for video in split.accumulator.unreadable
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
