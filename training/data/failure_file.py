"""The file that lists videos that could not be prepared, as JSON lines."""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from serve.files import write_atomically


class FailureFile:
    """Videos that cannot be used, with reasons; each failure is written to disk immediately.

    Failures of an earlier run are read first, unless `retry` is set; a failure is dropped if the file has changed.
    """

    def __init__(self, path: Path, *, retry: bool) -> None:
        self._path = path
        self.records: dict[str, dict[str, Any]] = {}  # path -> path, reason and origin (the identity of the file)
        if path.exists() and not retry:
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # a line truncated by a killed run
                    record = json.loads(line)
                    self.records[record["path"]] = record
        self.records = {
            name: record for name, record in self.records.items() if record["origin"] == _identity_or_none(name)
        }
        self._names_at_start = frozenset(self.records)

    def has_failed(self, video: Path) -> bool:
        """Return whether this video failed, in this run or an earlier one."""
        return _path_text(video) in self.records

    def failed_before(self, video: Path) -> bool:
        """Return whether this video failed in an earlier run."""
        return _path_text(video) in self._names_at_start

    def add(self, video: Path, reason: str) -> None:
        """Record a failure, and append it to the file."""
        name = _path_text(video)
        if name not in self.records:
            self.records[name] = {"path": name, "reason": reason, "origin": _identity_or_none(video)}
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(self.records[name], ensure_ascii=False) + "\n")

    def keep_only(self, videos: Iterable[Path]) -> None:
        """Remove failures of other videos, and rewrite the file in the order of paths."""
        names = {_path_text(video) for video in videos}
        self.records = {name: record for name, record in sorted(self.records.items()) if name in names}
        write_lines(self._path, [json.dumps(record, ensure_ascii=False) for record in self.records.values()])


def _path_text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _identity_or_none(path: Path | str) -> dict[str, int] | None:
    try:
        return file_identity(Path(path))
    except (OSError, ValueError):
        return None


def file_identity(video: Path) -> dict[str, int]:
    """Return the size and modification time of a file, which change when the file is replaced."""
    stat = video.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write lines to a text file atomically."""
    write_atomically(path, "".join(f"{line}\n" for line in lines))
