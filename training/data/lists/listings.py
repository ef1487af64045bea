"""Labelled videos from any kind of list: one row each, whatever the list says of it.

frames   ActionCLIP's list, `path num_frames label`, each a folder of pictures
videos   X-CLIP's list, `path label`
csv      columns `path` (or `file`, `video`) and `label` (or `name`, `class`: text); `split` and `group` where there are
folder   a folder of class folders, as Kinetics is kept; also below `train`, `val`, `test`
feedback the folder a server keeps corrected clips in (`SERVE_FEEDBACK__DIR`); what is erased meanwhile is left out
"""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from serve.feedback.index import INDEX, clip_path, read_index
from serve.text.normalization import caseless_form
from training.data.lists.annotations import AnnotationError, parse_frame_folder, parse_video_file, read_class_names

Parsed = TypeVar("Parsed")

PATH_COLUMNS = ("path", "file", "video")
LABEL_COLUMNS = ("label", "name", "class")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
SPLITS |= dict.fromkeys(("seen", "heldout", "pairs", "directions"), "test")  # of demo-data
# fmt: off
SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".dv", ".flv", ".gif", ".m2ts", ".m4v", ".mj2", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogg", ".ogv", ".rm", ".rmvb", ".ts", ".webm", ".wmv",
})
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Row:
    """One labelled video as its list tells of it."""

    path: Path  # as far as the list's own folder, or the root that was given, makes it known
    label: int | None = None  # of lists of numbers, or once names are looked up
    name: str | None = None  # class name, of lists of names
    num_frames: int | None = None  # of a folder of pictures; None: a video file
    split: str = ""
    group: str = ""
    place: str = ""  # where it stands, for messages


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One labelled video, ready to be read."""

    path: Path
    label: int
    num_frames: int | None = None  # of a folder of pictures; None: a video file
    packed: Sequence[bytes] = ()  # the pictures themselves, where they come out of a shard


def read_rows(kind: str, path: Path, *, root: Path | None = None) -> list[Row]:
    """All rows of a list; `root` is where relative paths start, the list's own folder without it.

    Raises:
        AnnotationError: there is no such kind or file, or a line cannot be read.
    """
    if kind not in KINDS:
        raise AnnotationError(f"a list is one of {', '.join(KINDS)}, found {kind!r}")
    try:
        return list(KINDS[kind](path, root))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AnnotationError(f"{path} cannot be read as {kind}: {error}") from error


def kind_of(path: Path, *, root: Path | None = None) -> str:
    """The kind a path most likely is, by its suffix and first line.

    Raises:
        AnnotationError: there is nothing to read.
    """
    if (path / INDEX).is_file():
        return "feedback"
    if path.is_dir():
        return "shards" if any(path.glob("*.tar")) else "folder"
    if path.suffix == ".tar" or "{" in path.name or "*" in path.name:
        return "shards"
    if path.suffix == ".csv":
        return "csv"
    try:
        first = next((line for _, line in _lines(path)), "")
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror}") from error
    try:
        parse_frame_folder(first)
    except AnnotationError:
        return "videos"
    return "videos" if _located(parse_video_file(first).path, path, root).is_file() else "frames"


def names_of(rows: Sequence[Row]) -> list[str]:
    """Class names of the rows, sorted."""
    return sorted({row.name for row in rows if row.name is not None})


def class_names(rows: Sequence[Row], classes: Path | None) -> tuple[str, ...]:
    """The class list: that of the CSV, else the names of the rows.

    Raises:
        AnnotationError: neither gives one, or a name stands twice.
    """
    if classes is None and not rows:
        raise AnnotationError("the list holds no video")
    names = read_class_names(classes) if classes is not None else names_of(rows)
    if not names:
        raise AnnotationError("lists of numbers need the class names: a CSV `id,name` (data.classes)")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise AnnotationError(f"class names that stand twice in {classes}: {', '.join(twice)}")
    return tuple(names)


def labelled(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows with labels looked up; None where the class list has no such name."""
    number_of = {name: number for number, name in enumerate(names)}
    return [row if row.name is None else replace(row, label=number_of.get(row.name)) for row in rows]


def in_known_words(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Rows whose names are spelt as a class list does, where a reader would take them for the same."""
    known = {caseless_form(name): name for name in reversed(names)}
    return [
        row if row.name is None else replace(row, name=known.get(caseless_form(row.name), row.name)) for row in rows
    ]


def entries_of(rows: Sequence[Row], names: Sequence[str]) -> list[Entry]:
    """Rows as entries.

    Raises:
        AnnotationError: there is none, or labels lie outside the class list.
    """
    found = labelled(rows, names)
    outside = [row for row in found if row.label is None or row.label >= len(names)]
    if outside:
        told = ", ".join(f"{row.place}: {row.name if row.name is not None else row.label}" for row in outside[:5])
        raise AnnotationError(f"{len(outside)} labels outside the class list of {len(names)} ({told})")
    if not found:
        raise AnnotationError("the list holds no video")
    return [Entry(path=row.path, label=row.label or 0, num_frames=row.num_frames) for row in found]


def _frame_rows(path: Path, root: Path | None) -> Iterator[Row]:
    for place, line in _lines(path):
        item = _told(parse_frame_folder, line, place)
        where = _located(item.path, path, root)
        yield Row(path=where, label=item.label, num_frames=item.num_frames, place=place)


def _video_rows(path: Path, root: Path | None) -> Iterator[Row]:
    for place, line in _lines(path):
        item = _told(parse_video_file, line, place)
        yield Row(path=_located(item.path, path, root), label=item.label, place=place)


def _csv_rows(path: Path, root: Path | None) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream)
        columns = table.fieldnames or ()
        of_path = next((name for name in PATH_COLUMNS if name in columns), None)
        of_label = next((name for name in LABEL_COLUMNS if name in columns), None)
        if of_path is None or of_label is None:
            raise AnnotationError(
                f"{path}: a column {' or '.join(PATH_COLUMNS)} and a column {' or '.join(LABEL_COLUMNS)} are needed, "
                f"found {', '.join(columns) or 'none'}"
            )
        for record in table:
            place = f"{path.name}, line {table.line_num}"
            file, name = record[of_path] or "", (record[of_label] or "").strip()
            if not file or not name:
                raise AnnotationError(f"{place}: path and label are needed, found {file!r} and {name!r}")
            split = _split_name(record.get("split") or "", place)
            group = (record.get("group") or "").strip()
            yield Row(path=_located(file, path, root), name=name, split=split, group=group, place=place)


def _folder_rows(path: Path, root: Path | None) -> Iterator[Row]:
    tops = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if tops and all(top.name in SPLITS for top in tops):
        for top in tops:
            yield from (replace(row, split=SPLITS[top.name]) for row in _folder_rows(top, root))
        return
    for top in tops:
        name = os.fsencode(top.name).decode("utf-8", errors="backslashreplace")
        for place, folders, files in os.walk(top):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for file in sorted(files):
                found = Path(place) / file
                if not file.startswith(".") and found.suffix.lower() in SUFFIXES:
                    yield Row(path=found, name=name, place=str(found.relative_to(path)))


def _feedback_rows(path: Path, root: Path | None) -> Iterator[Row]:
    """Rows whose clip is there; people spell a label in many ways, the first one stands for all."""
    if not path.is_dir():
        raise AnnotationError(f"{path}: the folder of a server's feedback is needed")
    rows, _ = read_index(path)
    spelling: dict[str, str] = {}
    for item in rows:
        clip = clip_path(path, item)
        if clip.is_file():
            name = spelling.setdefault(caseless_form(item.label), item.label)
            yield Row(path=clip, name=name, place=f"{INDEX}, {item.feedback_id}")


KINDS: dict[str, Callable[[Path, Path | None], Iterator[Row]]] = {
    "frames": _frame_rows,
    "videos": _video_rows,
    "csv": _csv_rows,
    "folder": _folder_rows,
    "feedback": _feedback_rows,
}


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(place, line) of the lines that hold something; file names that are no UTF-8 survive."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield f"{path.name}, line {number}", line


def _told(parse: Callable[[str], Parsed], line: str, place: str) -> Parsed:
    try:
        return parse(line)
    except AnnotationError as error:
        raise AnnotationError(f"{place}: {error}") from error


def _located(name: str, listed_in: Path, root: Path | None) -> Path:
    return (root if root is not None else listed_in.parent) / name


def _split_name(name: str, place: str) -> str:
    name = name.strip().lower()
    if name and name not in SPLITS:
        raise AnnotationError(f"{place}: a split is one of {', '.join(SPLITS)}, found {name!r}")
    return SPLITS.get(name, "")
