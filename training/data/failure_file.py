"""Videos that could not be prepared, one JSON document a line, kept on disk while they are found."""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from serve.files import write_atomically


class FailureFile:
    """Videos that cannot be used, by path; kept on disk while they are found."""

    def __init__(self, path: Path, *, retry: bool) -> None:
        self._path = path
        self.reasons: dict[str, dict[str, Any]] = {}
        if path.exists() and not retry:
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(
                    ValueError, KeyError, TypeError
                ):  # a line that was cut when the run was killed
                    record = json.loads(line)
                    self.reasons[record["path"]] = record
        self.reasons = {
            name: record for name, record in self.reasons.items() if record["origin"] == _origin_or_none(name)
        }
        self._known = frozenset(self.reasons)

    def knows(self, video: Path) -> bool:
        """It failed, and is still the same file."""
        return _text(video) in self.reasons

    def knew(self, video: Path) -> bool:
        """It failed in an earlier run."""
        return _text(video) in self._known

    def add(self, video: Path, reason: str) -> None:
        """Note a failure, on disk at once."""
        name = _text(video)
        if name not in self.reasons:
            self.reasons[name] = {"path": name, "reason": reason, "origin": _origin_or_none(video)}
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(self.reasons[name], ensure_ascii=False) + "\n")

    def finish(self, videos: Iterable[Path]) -> None:
        """Leave only videos of the set in the file."""
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
    """What tells a file from one that took its place."""
    facts = video.stat()
    return {"bytes": facts.st_size, "modified_ns": facts.st_mtime_ns}


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Replace a text file in one step."""
    write_atomically(path, "".join(f"{line}\n" for line in lines))
