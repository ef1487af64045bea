"""Write the shots as lists for a training run: X-CLIP's of videos, ActionCLIP's of frames.

A list has paths of either videos or frames. If the given list has a twin as written by `prepare` (`videos_train.txt`
beside `frames_train.txt`, with the same videos line by line), both formats are written.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serve.lists.errors import AnnotationError
from training.data.failure_file import write_lines
from training.data.lists.listing import read_listing
from training.data.lists.rows import Entry, ListOptions, ListRow

TWINS = {"videos": "frames", "frames": "videos"}


def twin_rows(path: Path, rows: Sequence[ListRow], *, kind: str, list_options: ListOptions) -> list[ListRow] | None:
    """Return the rows of the twin list in the other format, or None."""
    other = TWINS.get(kind)
    if other is None or not path.name.startswith(f"{kind}_"):
        return None
    twin = path.with_name(other + path.name.removeprefix(kind))
    if not twin.is_file():
        return None
    found = read_listing(twin, replace(list_options, kind=other)).rows
    return list(found) if [row.label for row in found] == [row.label for row in rows] else None


def write_lists(folder: Path, part: str, entries: Sequence[Entry]) -> None:
    """`videos_PART.txt` of files and `frames_PART.txt` of folders of pictures, with absolute paths.

    Raises:
        AnnotationError: a path cannot be in a list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {}
    for entry in entries:
        path = str(entry.path.absolute())
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise AnnotationError(f"{path!r} is not UTF-8 and cannot be in a list") from error
        if set(path) & set("\r\n"):
            raise AnnotationError(f"{path!r} has a line break and cannot be in a list")
        if entry.num_frames is None:
            lines.setdefault("videos", []).append(f"{path} {entry.label}")
        else:
            lines.setdefault("frames", []).append(f"{path} {entry.num_frames} {entry.label}")
    for kind, content in lines.items():
        write_lines(folder / f"{kind}_{part}.txt", content)


def write_classes(path: Path, names: Sequence[str]) -> None:
    """Write the CSV `id,name` that both lists need."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("id", "name"), *enumerate(names)])
