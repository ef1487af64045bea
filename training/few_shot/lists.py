"""The lists a draw was made of, for a full training run on the same shots: X-CLIP's of videos, ActionCLIP's of frames.

A list says where videos or their frames lie, not both. Where the list that was given has a twin as `prepare` writes
them (`videos_train.txt` beside `frames_train.txt`, line by line the same videos), both formats are written.
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
    """The same videos as the other format lists them, line by line; None without such a list."""
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
        AnnotationError: a path that cannot stand in a list of lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {}
    for entry in entries:
        path = str(entry.path.absolute())
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise AnnotationError(f"{path!r} is no UTF-8 and cannot stand in a list") from error
        if set(path) & set("\r\n"):
            raise AnnotationError(f"{path!r} holds a line break and cannot stand in a list")
        if entry.num_frames is None:
            lines.setdefault("videos", []).append(f"{path} {entry.label}")
        else:
            lines.setdefault("frames", []).append(f"{path} {entry.num_frames} {entry.label}")
    for kind, content in lines.items():
        write_lines(folder / f"{kind}_{part}.txt", content)


def write_classes(path: Path, names: Sequence[str]) -> None:
    """The CSV `id,name` both lists need."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("id", "name"), *enumerate(names)])
