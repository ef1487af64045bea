"""Files of results: one line of JSON per video, or a CSV table with one row per label."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from serve.errors import InvalidOption
from serve.files import atomic_write
from serve.lists.spreadsheets import escape_formula

COLUMNS = ("input", "rank", "label", "score", "logit", "cosine", "accepted", "problem")
Write = Callable[[str], None]  # takes a line of JSON, as `serve.jobs.results` makes it


def check_result_file(path: Path) -> None:
    """Check that results can be written to a file, before any work is done.

    Raises:
        InvalidOption: it has another suffix, or it exists.
    """
    if path.suffix.lower() not in FORMATS:
        raise InvalidOption(f"the suffix of --out must be one of {', '.join(FORMATS)}, got {str(path)!r}")
    if path.exists():
        raise InvalidOption(f"{path} already exists; remove it, or choose another file with --out")
    if not path.parent.is_dir():
        raise InvalidOption(f"the folder {path.parent} of --out does not exist")


@contextmanager
def open_result_file(path: Path) -> Iterator[Write]:
    """Yield a function that writes the result of one video; the file appears when all are written."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        yield FORMATS[path.suffix.lower()](stream)


def _json_lines(stream: TextIO) -> Write:
    def write(line: str) -> None:
        stream.write(line)

    return write


def _csv(stream: TextIO) -> Write:
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()

    def write(line: str) -> None:
        writer.writerows(rows_of(json.loads(line)))

    return write


def rows_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one video: its labels, best first, or its problem; texts are escaped for spreadsheets."""
    name = escape_formula(document["input"])
    if "problem" in document:
        return [{"input": name, "problem": escape_formula(document["problem"]["detail"])}]
    return [
        {"input": name, "rank": rank, **result, "label": escape_formula(result["label"])}
        for rank, result in enumerate(document["result"]["results"], start=1)
    ]


FORMATS: dict[str, Callable[[TextIO], Write]] = {".jsonl": _json_lines, ".csv": _csv}
