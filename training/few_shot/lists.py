"""Write shots as lists for a training run: lists of video files (X-CLIP) or of frame folders (ActionCLIP).

A list contains either video files or frame folders. `prepare` writes both lists, with the same videos line by line
(`videos_train.txt` and `frames_train.txt`). If such a twin exists beside the given list, both formats are written.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serve.lists.errors import AnnotationError
from training.data.failure_file import write_lines
from training.data.lists.listing import read_listing
from training.data.lists.rows import Entry, ListOptions, ListRow

TWIN_KINDS = {"videos": "frames", "frames": "videos"}


def read_twin_rows(
    path: Path, rows: Sequence[ListRow], *, kind: str, list_options: ListOptions
) -> list[ListRow] | None:
    """Return the rows of the twin list in the other format; None if it does not exist or its labels differ."""
    other = TWIN_KINDS.get(kind)
    if other is None or not path.name.startswith(f"{kind}_"):
        return None
    twin = path.with_name(other + path.name.removeprefix(kind))
    if not twin.is_file():
        return None
    twin_rows = read_listing(twin, replace(list_options, kind=other)).rows
    return list(twin_rows) if [row.label for row in twin_rows] == [row.label for row in rows] else None


def write_lists(folder: Path, split: str, entries: Sequence[Entry]) -> None:
    """Write video files to `videos_SPLIT.txt` and frame folders to `frames_SPLIT.txt`, with absolute paths.

    Raises:
        AnnotationError: a path cannot be written to a list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {}
    for entry in entries:
        path = str(entry.path.absolute())
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise AnnotationError(f"{path!r} is not UTF-8 and cannot be written to a list") from error
        if set(path) & set("\r\n"):
            raise AnnotationError(f"{path!r} contains a line break and cannot be written to a list")
        if entry.num_frames is None:
            lines.setdefault("videos", []).append(f"{path} {entry.label}")
        else:
            lines.setdefault("frames", []).append(f"{path} {entry.num_frames} {entry.label}")
    for kind, content in lines.items():
        write_lines(folder / f"{kind}_{split}.txt", content)


def write_classes(path: Path, names: Sequence[str]) -> None:
    """Write the class names as a CSV `id,name`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("id", "name"), *enumerate(names)])
