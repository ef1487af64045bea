"""The file of videos that could not be prepared: JSON lines, written at once."""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from serve.files import write_atomically


class FailureFile:
    """Videos that cannot be used, by path; each is written to disk at once."""

    def __init__(self, path: Path, *, retry: bool) -> None:
        self._path = path
        self.reasons: dict[str, dict[str, Any]] = {}
        if path.exists() and not retry:
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # a line truncated by a killed run
                    record = json.loads(line)
                    self.reasons[record["path"]] = record
        self.reasons = {
            name: record for name, record in self.reasons.items() if record["origin"] == _origin_or_none(name)
        }
        self._known = frozenset(self.reasons)

    def has_failed(self, video: Path) -> bool:
        """Return whether this file failed before and is unchanged."""
        return _text(video) in self.reasons

    def failed_before(self, video: Path) -> bool:
        """Return whether this path failed in an earlier run."""
        return _text(video) in self._known

    def add(self, video: Path, reason: str) -> None:
        """Record a failure on disk."""
        name = _text(video)
        if name not in self.reasons:
            self.reasons[name] = {"path": name, "reason": reason, "origin": _origin_or_none(video)}
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(self.reasons[name], ensure_ascii=False) + "\n")

    def finish(self, videos: Iterable[Path]) -> None:
        """Remove entries that are not videos of the set."""
        present = {_text(video) for video in videos}
        self.reasons = {name: record for name, record in sorted(self.reasons.items()) if name in present}
        write_lines(self._path, [json.dumps(record, ensure_ascii=False) for record in self.reasons.values()])


def _text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _origin_or_none(path: Path | str) -> dict[str, int] | None:
    try:
        return origin_of(Path(path))
    except (OSError, ValueError):
        return None


def origin_of(video: Path) -> dict[str, int]:
    """Return an identity of a file that changes when the file is replaced."""
    facts = video.stat()
    return {"bytes": facts.st_size, "modified_ns": facts.st_mtime_ns}


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file atomically."""
    write_atomically(path, "".join(f"{line}\n" for line in lines))
