"""Results of earlier evaluations, read back to be compared."""

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
    """A video of a stored result."""

    label: str | None
    rank: int | None  # 1 the best; None: it could not be read
    digest: str | None = None  # of the content; None in results of earlier versions
    group: str = ""  # the group its list declares


@dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """What of a stored split is needed to compare it."""

    name: str
    list: str
    class_names: tuple[str, ...]
    videos: Mapping[tuple[str, int], StoredVideo]  # by path, and which of the rows of that path


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A result that was read back."""

    file: Path
    checkpoint: str  # file and beginning of its hash
    protocol: Mapping[str, Any]
    splits: tuple[StoredSplit, ...]


def read_result(path: Path) -> StoredResult:
    """A result file.

    Raises:
        EvaluationError: it is none, or of a version this program does not know.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read as a result: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise EvaluationError(f"{path} is no result of `evaluate --out`")
    if content.get("version") != VERSION:
        raise EvaluationError(f"{path}: version {VERSION} of results is known here, found {content.get('version')}")
    try:
        checkpoint = content["checkpoint"]
        return StoredResult(
            file=path,
            checkpoint=f"{checkpoint['file']} ({checkpoint['sha256'][:12]})",
            protocol=content["protocol"],
            splits=tuple(_stored_split(split) for split in content["splits"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(f"{path}: a field is missing or of the wrong type: {error!r}") from error


def _stored_split(split: Mapping[str, Any]) -> StoredSplit:
    videos: dict[tuple[str, int], StoredVideo] = {}
    names, seen = set(split["class_names"]), Counter[str]()
    for row in sorted((*split["videos"], *split["unreadable"]), key=lambda row: int(row["index"])):
        rank, label = row.get("rank"), row["label"]
        if not (rank is None or (isinstance(rank, int) and 1 <= rank <= len(names))):
            raise TypeError(f"rank {rank!r} of {row['path']}")
        if label not in names and not (rank is None and label is None):
            raise KeyError(label)
        number = seen[row["path"]]
        seen[row["path"]] += 1
        videos[row["path"], number] = StoredVideo(
            label=label, rank=rank, digest=row.get("sha256"), group=row.get("group") or ""
        )
    return StoredSplit(name=split["name"], list=split["list"], class_names=tuple(split["class_names"]), videos=videos)
