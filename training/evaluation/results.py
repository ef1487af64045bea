"""The result of an evaluation as a file: what was evaluated, how, the figures, and a row for every video.

A JSON document with a schema and a version, so results made at different times and places can be compared.
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

from serve.calibration_statistics import BINS
from serve.files import atomic_write, write_atomically
from training.evaluation.accumulator import EvaluationMetrics, MetricAccumulator
from training.evaluation.bootstrap import DRAWS
from training.evaluation.errors import EvaluationError
from training.evaluation.score_intervals import CONFIDENCE, Interval
from training.evaluation.zero_shot import Disjointness

SCHEMA, VERSION = "actserve-evaluation", 1
FIGURES = ("top1", "top5", "top1_all", "mean_class_accuracy", "calibration_error", "negative_log_likelihood")


@dataclass(frozen=True, kw_only=True)
class CheckpointIdentity:
    """Which weights."""

    file: str
    sha256: str
    family: str
    step: int | None = None  # optimiser steps, where the file says
    run: str = ""  # the run's folder, where the file says
    few_shot: Mapping[str, int] = field(default_factory=dict)  # K and seed of the training list, where the file says


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """One list, or one choice of its classes."""

    name: str
    list: str
    list_sha256: str | None
    class_names: tuple[str, ...]
    figures: EvaluationMetrics
    intervals: Mapping[str, Interval]
    accumulator: MetricAccumulator
    zero_shot: Disjointness | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """An evaluation."""

    checkpoint: CheckpointIdentity
    protocol: Mapping[str, Any]
    splits: tuple[SplitResult, ...]

    def over_splits(self) -> dict[str, tuple[float, float]]:
        """(mean, standard deviation) of each figure; nothing where there is one split."""
        if len(self.splits) < 2:
            return {}
        values = {name: [getattr(split.figures, name) for split in self.splits] for name in FIGURES}
        return {name: (fmean(found), stdev(found)) for name, found in values.items() if None not in found}


def split_result(
    accumulator: MetricAccumulator,
    class_names: Sequence[str],
    *,
    name: str,
    path: str,
    sha256: str | None,
    zero_shot: Disjointness | None,
) -> SplitResult:
    """The figures of a accumulator.

    Raises:
        EvaluationError: no video could be read.
    """
    return SplitResult(
        name=name,
        list=path,
        list_sha256=sha256,
        class_names=tuple(class_names),
        figures=accumulator.figures(),
        intervals=accumulator.intervals(),
        accumulator=accumulator,
        zero_shot=zero_shot,
    )


def class_names_sha256(names: Sequence[str]) -> str:
    """Hash of a class list: names and order."""
    return hashlib.sha256(json.dumps(list(names), ensure_ascii=False).encode()).hexdigest()


def document(result: Result) -> dict[str, Any]:
    """A result as plain JSON values."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "checkpoint": asdict(result.checkpoint),
        "protocol": dict(result.protocol),
        "intervals": {"confidence": CONFIDENCE, "shares": "wilson", "negative_log_likelihood": f"bootstrap of {DRAWS}"},
        "calibration_bins": BINS,
        "over_splits": {
            name: {"mean": mean, "standard_deviation": spread} for name, (mean, spread) in result.over_splits().items()
        },
        "splits": [_split_document(split) for split in result.splits],
    }


def summary(result: Result) -> dict[str, Any]:
    """The result in one line: figures without rows."""
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
                "videos": split.figures.num_videos,
                "unreadable": split.figures.num_unreadable,
                "independent": split.figures.num_independent,
                "copies": split.figures.num_copies,
                "classes": len(split.class_names),
                **{_key(name, split.figures.top5_k): _rounded(getattr(split.figures, name)) for name in FIGURES},
                "top1_interval": [_rounded(edge) for edge in split.intervals["top1"]],
            }
            for split in result.splits
        ],
        "over_splits": {
            _key(name, min(split.figures.top5_k for split in result.splits)): {
                "mean": _rounded(mean),
                "standard_deviation": _rounded(deviation),
            }
            for name, (mean, deviation) in result.over_splits().items()
        },
    }


def _key(name: str, k: int) -> str:
    """The name of a figure in a summary, which says the k that was computed."""
    return f"top{k}" if name == "top5" else name


def require_writable(folder: Path) -> None:
    """Make a folder, and make sure that files can be written there: before hours of work, not after.

    Raises:
        EvaluationError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EvaluationError(f"{folder}: nothing can be written there: {error.strerror}") from error


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one step: a reader finds the old one or the whole new one.

    Raises:
        EvaluationError: it cannot be written.
    """
    try:
        write_atomically(path, json.dumps(content, allow_nan=False) + "\n")
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written: {error.strerror}") from error


def write_scores(path: Path, result: Result) -> Path:
    """Write the score of every readable video for every class beside a result: `result.json` -> `result.scores.npz`.

    Of split i: `i/scores` float32 [N, K], `i/labels` [N], `i/paths` [N], `i/classes` [K].

    Raises:
        EvaluationError: it cannot be written.
    """
    arrays: dict[str, Any] = {}
    for number, split in enumerate(result.splits):
        rows = split.accumulator.rows
        arrays[f"{number}/scores"] = np.stack([row.scores for row in rows if row.scores is not None])
        arrays[f"{number}/labels"] = np.array([row.label for row in rows], np.int64)
        arrays[f"{number}/paths"] = np.array([row.path for row in rows])
        arrays[f"{number}/classes"] = np.array(split.class_names)
    target = path.with_name(f"{path.stem}.scores.npz")
    try:
        with atomic_write(target) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
    except OSError as error:
        raise EvaluationError(f"{target} cannot be written: {error.strerror}") from error
    return target


def _split_document(split: SplitResult) -> dict[str, Any]:
    names = split.class_names
    figures = asdict(split.figures)
    return {
        "name": split.name,
        "list": split.list,
        "list_sha256": split.list_sha256,
        "class_names": list(names),
        "class_names_sha256": class_names_sha256(names),
        "zero_shot": asdict(split.zero_shot) if split.zero_shot else None,
        "figures": {name: value for name, value in figures.items() if name not in ("bins", "classes")},
        "intervals": {name: list(interval) for name, interval in split.intervals.items()},
        "reliability": figures["bins"],
        "classes": [
            {
                **item,
                "name": names[item["number"]],
                "confused_with": None if item["confused_with"] is None else names[item["confused_with"]],
            }
            for item in figures["classes"]
        ],
        "videos": [
            {
                "index": row.index,
                "path": row.path,
                "label": names[row.label],
                "rank": row.rank + 1,
                "sha256": row.digest or None,
                "group": row.group or None,
                "margin": row.margin,
                "label_probability": row.label_probability,
                "top": [[names[k], p] for k, p in zip(row.top, row.top_probabilities, strict=True)],
            }
            for row in split.accumulator.rows
        ],
        "unreadable": [
            {
                "index": row.index,
                "path": row.path,
                "label": names[row.label] if row.label >= 0 else None,
                "reason": row.reason,
            }
            for row in split.accumulator.unreadable
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
