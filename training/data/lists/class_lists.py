"""Read class lists in the formats of published data sets: names in the order of their ids.

CSV or TSV `id,name`      ids from 0 or from 1, in any order; without a column of ids, in the order of the file
`1 Archery`               an id and a name in each line (UCF101's classInd.txt), ids from 0 or from 1
`A1. drink water`         NTU RGB+D
`Archery`                 a name in each line
JSON                      a list of names, or an object of names and ids (Something-Something's labels.json)

Ids are 0 to K-1 or 1 to K, each once. Labels of lists of numbers start at the same number as the ids.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.lists.errors import AnnotationError
from serve.lists.labelled_table import is_labelled_table, is_number
from serve.lists.tables import header_columns, read_table
from serve.lists.text import TextFile, read_text

NAMES = frozenset({"name", "classname", "labelname", "labeltext", "class", "label", "action", "category"})
IDS = frozenset({"id", "labelid", "classid", "index", "number", "labelindex", "classindex"})
NUMBERED = re.compile(r"A?(?P<id>[0-9]+)(?:\.\s+|\s*[,;:\t]\s*|\s+)(?P<name>\S.*)")


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """Class names by label."""

    names: tuple[str, ...]
    first_id: int | None  # 0 or 1; None without ids
    form: str  # its format, for messages


@dataclass(frozen=True, kw_only=True)
class _Item:
    line: int
    name: str
    id: int | None


def read_class_list(path: Path, *, any_ids: bool = False) -> ClassList:
    """Read a class list; with `any_ids`, ids may have gaps, because no label refers to them.

    Raises:
        AnnotationError: the format is unknown, a name is missing, or ids are invalid; names the file and the line.
    """
    file = read_text(path)
    form, items = _items(path, file, any_ids=any_ids)
    if not items:
        raise AnnotationError(f"{file.name}: the class list is empty")
    first_id = None if any_ids else _first_id(file, items)
    ordered = items if first_id is None else sorted(items, key=lambda item: item.id or 0)
    names = tuple(item.name for item in ordered)
    counts = Counter(names)
    twice = next((item for item in reversed(items) if counts[item.name] > 1), None)
    if twice is not None:
        raise AnnotationError(f"{file.place(twice.line)}: the class {twice.name!r} is listed twice")
    return ClassList(names=names, first_id=first_id, form=form)


def read_class_names(path: Path) -> list[str]:
    """Return the names of a class list in the order of their ids.

    Raises:
        AnnotationError: as for `read_class_list`.
    """
    return list(read_class_list(path).names)


def _items(path: Path, file: TextFile, *, any_ids: bool) -> tuple[str, list[_Item]]:
    _, columns = header_columns(file, NAMES | IDS)
    if path.suffix.lower() == ".json":
        return "JSON", _from_json(file)
    if is_labelled_table(columns):
        raise AnnotationError(f"{file.name}, line 1: this is a list of videos ({', '.join(columns)}), not of classes")
    is_table = bool(set(columns) & NAMES) and (bool(set(columns) & IDS) or len(columns) > 1)
    if is_table or path.suffix.lower() in (".csv", ".tsv"):
        return _from_table(file, any_ids=any_ids)
    return _from_lines(file, any_ids=any_ids)


def _from_table(file: TextFile, *, any_ids: bool) -> tuple[str, list[_Item]]:
    if not _numbered(file, any_ids=any_ids) and not set(header_columns(file, NAMES | IDS)[1]) & NAMES:
        found = ", ".join(header_columns(file, NAMES | IDS)[1]) or "none"
        raise AnnotationError(f"{file.name}, line 1: expected the columns id,name, found {found}")
    if numbered := _numbered(file, any_ids=any_ids):
        return "ids and names in lines", numbered
    table = read_table(file, NAMES | IDS)
    of_name = next(name for name in ("name", *table.columns) if name in table.columns and name in NAMES)
    of_id = table.column(IDS)
    if of_id is None and of_name == "name":  # `label,name`: the label is the id
        of_id = next((column for column in table.columns if column in ("label", "class")), None)
    items = []
    for row in table.rows:
        name, number = row.cells[of_name], row.cells[of_id] if of_id else ""
        if not name:
            raise AnnotationError(f"{table.place(row)}: the name is missing")
        if of_id and not (number.isascii() and number.isdecimal()):
            raise AnnotationError(f"{table.place(row)}: the id must be a number from 0 or 1, found {number!r}")
        items.append(_Item(line=row.line, name=name, id=int(number) if of_id else None))
    return f"table, columns {', '.join(filter(None, (of_id, of_name)))}", items


def _from_lines(file: TextFile, *, any_ids: bool) -> tuple[str, list[_Item]]:
    if numbered := _numbered(file, any_ids=any_ids):
        return "ids and names in lines", numbered
    return "names in lines", [_Item(line=number, name=line.strip(), id=None) for number, line in file.lines()]


def _numbered(file: TextFile, *, any_ids: bool) -> list[_Item]:
    """Return the items of a file whose lines all begin with an id, or an empty list.

    Raises:
        AnnotationError: every line begins with a number, but the numbers are not valid ids.
    """
    lines = file.lines()
    matches = [NUMBERED.fullmatch(line.strip()) for _, line in lines]
    items = [
        _Item(line=number, name=match["name"].strip().strip('"'), id=int(match["id"]))
        for (number, _), match in zip(lines, matches, strict=True)
        if match is not None
    ]
    if len(items) < len(lines) or not items:
        return []
    if not any_ids:
        _first_id(file, items)
    return items


def _from_json(file: TextFile) -> list[_Item]:
    try:
        content: Any = json.loads(file.text)
    except ValueError as error:
        raise AnnotationError(f"{file.name} cannot be read as JSON: {error}") from error
    if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
        return [_Item(line=1, name=name.strip(), id=None) for name in content]
    if not isinstance(content, dict) or not content:
        raise AnnotationError(f"{file.name}: a list of names or an object of names and ids is needed")
    pairs = [(str(key).strip().strip('"'), value) for key, value in content.items()]
    if all(is_number(key) and isinstance(value, str) and not is_number(value) for key, value in pairs):
        pairs = [(value, key) for key, value in pairs]
    items = []
    for name, number in pairs:
        if not str(number).isdecimal():
            raise AnnotationError(f"{file.name}: the id of {name!r} must be a number, found {number!r}")
        items.append(_Item(line=1, name=name, id=int(number)))
    return items


def _first_id(file: TextFile, items: list[_Item]) -> int | None:
    """Return the first id, 0 or 1; None without ids.

    Raises:
        AnnotationError: the ids are not 0 to K-1 or 1 to K, each once.
    """
    if all(item.id is None for item in items):
        return None
    lines: dict[int, int] = {}
    for item in items:
        number = item.id or 0
        if number in lines:
            raise AnnotationError(f"{file.place(item.line)}: the id {number} is already in line {lines[number]}")
        lines[number] = item.line
    first, size = min(lines), len(items)
    outside = [first] if first > 1 else [number for number in lines if number >= size + first]
    if outside:
        raise AnnotationError(
            f"{file.place(lines[outside[0]])}: the ids of {size} classes are 0 to {size - 1} or 1 to {size}, "
            f"each once, found {outside[0]}"
        )
    return first
