"""Read class lists in the formats of published data sets: names in the order of their ids.

CSV or TSV `id,name`      ids in any order; without a column of ids, the order of the file
`1 Archery`               an id and a name in each line (UCF101's classInd.txt)
`A1. drink water`         an id and a name in each line (NTU RGB+D)
`Archery`                 a name in each line
JSON                      a list of names, or an object with names and ids (Something-Something's labels.json)

The ids must be 0 to K-1 or 1 to K, each once. If the labels of a list are numbers, they start at the same number.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.lists.errors import AnnotationError
from serve.lists.labelled_table import is_labelled_table, is_number
from serve.lists.tables import parse_header, read_table
from serve.lists.text import TextFile, read_text

NAME_COLUMNS = frozenset({"name", "classname", "labelname", "labeltext", "class", "label", "action", "category"})
ID_COLUMNS = frozenset({"id", "labelid", "classid", "index", "number", "labelindex", "classindex"})
NUMBERED_LINE = re.compile(r"A?(?P<id>[0-9]+)(?:\.\s+|\s*[,;:\t]\s*|\s+)(?P<name>\S.*)")


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """The class names of a list, in the order of their ids."""

    names: tuple[str, ...]
    first_id: int | None  # 0 or 1; None if the list has no ids
    format_name: str


@dataclass(frozen=True, kw_only=True)
class _Item:
    line: int
    name: str
    id: int | None


def read_class_list(path: Path, *, any_ids: bool = False) -> ClassList:
    """Read a class list; with `any_ids`, ids may have gaps, because no label refers to them.

    Raises:
        AnnotationError: the format is unknown, a name is missing or repeated, or the ids are invalid; the message
            contains the file and the line.
    """
    file = read_text(path)
    format_name, items = _read_items(path, file, any_ids=any_ids)
    if not items:
        raise AnnotationError(f"{file.name}: the class list is empty")
    first_id = None if any_ids else _first_id(file, items)
    ordered = items if first_id is None else sorted(items, key=lambda item: item.id or 0)
    names = tuple(item.name for item in ordered)
    counts = Counter(names)
    duplicate = next((item for item in reversed(items) if counts[item.name] > 1), None)
    if duplicate is not None:
        raise AnnotationError(f"{file.position(duplicate.line)}: the class {duplicate.name!r} is listed twice")
    return ClassList(names=names, first_id=first_id, format_name=format_name)


def read_class_names(path: Path) -> list[str]:
    """Return the names of a class list in the order of their ids.

    Raises:
        AnnotationError: see `read_class_list`.
    """
    return list(read_class_list(path).names)


def _read_items(path: Path, file: TextFile, *, any_ids: bool) -> tuple[str, list[_Item]]:
    """Return (name of the format, items in the order of the file)."""
    _, columns = parse_header(file, NAME_COLUMNS | ID_COLUMNS)
    if path.suffix.lower() == ".json":
        return "JSON", _read_json(file)
    if is_labelled_table(columns):
        raise AnnotationError(f"{file.name}, line 1: this is a list of videos ({', '.join(columns)}), not of classes")
    is_table = bool(set(columns) & NAME_COLUMNS) and (bool(set(columns) & ID_COLUMNS) or len(columns) > 1)
    if is_table or path.suffix.lower() in (".csv", ".tsv"):
        return _read_table(file, any_ids=any_ids)
    return _read_lines(file, any_ids=any_ids)


def _read_table(file: TextFile, *, any_ids: bool) -> tuple[str, list[_Item]]:
    columns = parse_header(file, NAME_COLUMNS | ID_COLUMNS)[1]
    numbered = _read_numbered_lines(file, any_ids=any_ids)
    if not numbered and not set(columns) & NAME_COLUMNS:
        raise AnnotationError(f"{file.name}, line 1: expected the columns id,name, got {', '.join(columns) or 'none'}")
    if numbered:
        return "ids and names in lines", numbered
    table = read_table(file, NAME_COLUMNS | ID_COLUMNS)
    name_column = next(name for name in ("name", *table.columns) if name in table.columns and name in NAME_COLUMNS)
    id_column = table.column(ID_COLUMNS)
    if id_column is None and name_column == "name":  # `label,name`: the label is the id
        id_column = next((column for column in table.columns if column in ("label", "class")), None)
    items = []
    for row in table.rows:
        name, number = row.cells[name_column], row.cells[id_column] if id_column else ""
        if not name:
            raise AnnotationError(f"{table.position(row)}: the name is missing")
        if id_column and not (number.isascii() and number.isdecimal()):
            raise AnnotationError(f"{table.position(row)}: the id must be a whole number, got {number!r}")
        items.append(_Item(line=row.line, name=name, id=int(number) if id_column else None))
    return f"table, columns {', '.join(filter(None, (id_column, name_column)))}", items


def _read_lines(file: TextFile, *, any_ids: bool) -> tuple[str, list[_Item]]:
    if numbered := _read_numbered_lines(file, any_ids=any_ids):
        return "ids and names in lines", numbered
    return "names in lines", [_Item(line=number, name=line.strip(), id=None) for number, line in file.lines()]


def _read_numbered_lines(file: TextFile, *, any_ids: bool) -> list[_Item]:
    """Return the items of a file in which every line begins with an id; empty for other files.

    Raises:
        AnnotationError: every line begins with a number, but the numbers are not valid ids.
    """
    lines = file.lines()
    matches = [NUMBERED_LINE.fullmatch(line.strip()) for _, line in lines]
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


def _read_json(file: TextFile) -> list[_Item]:
    try:
        content: Any = json.loads(file.text)
    except ValueError as error:
        raise AnnotationError(f"{file.name} cannot be read as JSON: {error}") from error
    if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
        return [_Item(line=1, name=name.strip(), id=None) for name in content]
    if not isinstance(content, dict) or not content:
        raise AnnotationError(f"{file.name}: expected a list of names, or an object with names and ids")
    pairs = [(str(key).strip().strip('"'), value) for key, value in content.items()]
    if all(is_number(key) and isinstance(value, str) and not is_number(value) for key, value in pairs):
        pairs = [(value, key) for key, value in pairs]
    items = []
    for name, number in pairs:
        if not str(number).isdecimal():
            raise AnnotationError(f"{file.name}: the id of {name!r} must be a whole number, got {number!r}")
        items.append(_Item(line=1, name=name, id=int(number)))
    return items


def _first_id(file: TextFile, items: list[_Item]) -> int | None:
    """Return the first id, 0 or 1; None if the items have no ids.

    Raises:
        AnnotationError: the ids are not 0 to K-1 or 1 to K, each once.
    """
    if all(item.id is None for item in items):
        return None
    lines: dict[int, int] = {}
    for item in items:
        number = item.id or 0
        if number in lines:
            raise AnnotationError(
                f"{file.position(item.line)}: the id {number} is already used in line {lines[number]}"
            )
        lines[number] = item.line
    first, size = min(lines), len(items)
    out_of_range = [first] if first > 1 else [number for number in lines if number >= size + first]
    if out_of_range:
        raise AnnotationError(
            f"{file.position(lines[out_of_range[0]])}: the ids of {size} classes must be 0 to {size - 1} or 1 to "
            f"{size}, each once, got {out_of_range[0]}"
        )
    return first
