"""Lists of labelled videos as both systems write them, and class names.

ActionCLIP: `path num_frames label`, a folder of extracted frames. X-CLIP: `path label`, a video file. Both originals
split on every space; here a path may hold spaces, since the numbers are taken from the right.
"""

import csv
from dataclasses import dataclass
from pathlib import Path


class AnnotationError(ValueError):
    """A line that cannot be read; the message quotes it."""


@dataclass(frozen=True, kw_only=True)
class FrameFolder:
    """One video as a folder of pictures."""

    path: str
    num_frames: int
    label: int


@dataclass(frozen=True, kw_only=True)
class VideoFile:
    """One video as a file."""

    path: str
    label: int


def parse_frame_folder(line: str) -> FrameFolder:
    """One line of an ActionCLIP list; spaces and line ends around it do not count.

    Raises:
        AnnotationError: it is not `path num_frames label`.
    """
    parts = line.strip().rsplit(" ", 2)
    if len(parts) != 3 or not parts[1].isdecimal() or not parts[2].isdecimal():
        raise AnnotationError(f"expected `path num_frames label`, found {line.strip()!r}")
    return FrameFolder(path=parts[0], num_frames=int(parts[1]), label=int(parts[2]))


def parse_video_file(line: str) -> VideoFile:
    """One line of an X-CLIP list.

    Raises:
        AnnotationError: it is not `path label`.
    """
    parts = line.strip().rsplit(maxsplit=1)
    if len(parts) != 2 or not parts[1].isdecimal():
        raise AnnotationError(f"expected `path label`, found {line.strip()!r}")
    return VideoFile(path=parts[0], label=int(parts[1]))


def read_class_names(path: Path) -> list[str]:
    """Return the names of a CSV with the columns `id,name`, in the order of the ids, which are 0 to K-1.

    Rows may stand in any order. Without a column `id` the order of the file counts. A class called "none" or "nan"
    stays that word (pandas, which the originals use, makes a missing value of it).

    Raises:
        AnnotationError: a column or name is missing, or the ids are not 0 to K-1, each once; names file and line.
    """
    rows = _class_rows(path)
    lines = {number: line for line, number, _ in reversed(rows)}  # of the first of equal ids
    twice = next(((line, number) for line, number, _ in rows if lines[number] != line), None)
    if twice is not None:
        line, number = twice
        raise AnnotationError(f"{path.name}, line {line}: the id {number} stands in line {lines[number]} already")
    outside = next(((line, number) for line, number, _ in rows if number >= len(rows)), None)
    if outside is not None:
        line, number = outside
        raise AnnotationError(
            f"{path.name}, line {line}: the ids of {len(rows)} classes are 0 to {len(rows) - 1}, each once, found "
            f"{number}; labels in lists count from 0 as well"
        )
    return [name for _, _, name in sorted(rows, key=lambda row: row[1])]


def read_names_of_any_id(path: Path) -> list[str]:
    """Return the names of such a CSV in the order of the file, for uses where no label refers to an id.

    Raises:
        AnnotationError: a column or name is missing, or an id is no number.
    """
    return [name for _, _, name in _class_rows(path)]


def _class_rows(path: Path) -> list[tuple[int, int, str]]:
    """(line, id, name) of each class."""
    try:
        return _parse_class_rows(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AnnotationError(f"{path} cannot be read as CSV: {error}") from error


def _parse_class_rows(path: Path) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream, skipinitialspace=True)
        columns = [column.strip().lower() for column in table.fieldnames or ()]
        if "name" not in columns:
            raise AnnotationError(f"{path}: expected the columns id,name, found {', '.join(columns) or 'none'}")
        table.fieldnames = columns
        for row in table:
            place = f"{path.name}, line {table.line_num}"
            if None in row:
                raise AnnotationError(f"{place}: more fields than columns; a name with a comma needs quotes around it")
            name, number = (row["name"] or "").strip(), (row.get("id") or "").strip()
            if not name:
                raise AnnotationError(f"{place}: the name is missing")
            if "id" not in columns:
                number = str(len(found))
            if not (number.isascii() and number.isdecimal()):
                raise AnnotationError(f"{place}: the id is a number from 0, found {number!r}")
            found.append((table.line_num, int(number), name))
    return found
