"""Read the result files of earlier evaluations, for comparison."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.evaluation.errors import EvaluationError
from training.evaluation.results import SCHEMA, VERSION


@dataclass(frozen=True, kw_only=True)
class StoredVideo:
    """A video in a stored result."""

    label: str | None
    rank: int | None  # 1-based rank of the label; None if the video was unreadable
    digest: str | None = None  # SHA-256 of the content; None in results of earlier versions
    group: str = ""  # declared in the list; videos of one group are dependent


@dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """The part of a stored split that a comparison needs."""

    name: str
    list: str
    class_names: tuple[str, ...]
    videos: Mapping[tuple[str, int], StoredVideo]  # key: path, and number of earlier rows with the same path


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A result read from a file."""

    file: Path
    checkpoint: str  # file name and the first digits of its SHA-256
    protocol: Mapping[str, Any]
    splits: tuple[StoredSplit, ...]


def read_result(path: Path) -> StoredResult:
    """Read a result file.

    Raises:
        EvaluationError: the file is not a result, or has an unsupported version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"cannot read the result {path}: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise EvaluationError(f"{path} is not a result of `evaluate --out`")
    if content.get("version") != VERSION:
        raise EvaluationError(f"{path}: the version must be {VERSION}, got {content.get('version')!r}")
    try:
        checkpoint = content["checkpoint"]
        return StoredResult(
            file=path,
            checkpoint=f"{checkpoint['file']} ({checkpoint['sha256'][:12]})",
            protocol=content["protocol"],
            splits=tuple(_stored_split(split) for split in content["splits"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(f"{path}: a field is missing or has the wrong type: {error!r}") from error


def _stored_split(split: Mapping[str, Any]) -> StoredSplit:
    videos: dict[tuple[str, int], StoredVideo] = {}
    names, path_counts = set(split["class_names"]), Counter[str]()
    for row in sorted((*split["videos"], *split["unreadable"]), key=lambda row: int(row["index"])):
        rank, label = row.get("rank"), row["label"]
        if not (rank is None or (isinstance(rank, int) and 1 <= rank <= len(names))):
            raise TypeError(f"rank {rank!r} of {row['path']}")
        if label not in names and not (rank is None and label is None):
            raise KeyError(label)
        repetition = path_counts[row["path"]]
        path_counts[row["path"]] += 1
        videos[row["path"], repetition] = StoredVideo(
            label=label, rank=rank, digest=row.get("sha256"), group=row.get("group") or ""
        )
    return StoredSplit(name=split["name"], list=split["list"], class_names=tuple(split["class_names"]), videos=videos)
