"""Read tables of labelled videos: find the columns for path, class, part and group.

If a table has class numbers and class names, the names are used, and each number must always go with the same name. If
it has only numbers, the caller needs a class list to interpret them as ids. A part is `train`, `val` or `test`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from serve.lists.errors import AnnotationError
from serve.lists.parts import parse_part
from serve.lists.tables import Table, TableRow, read_table
from serve.lists.text import TextFile

PATH_COLUMNS = frozenset(
    {"path", "file", "video", "filename", "filepath", "videopath", "videofile", "videoname", "clip", "clippath"}
)
NAME_COLUMNS = frozenset({"name", "classname", "labelname", "labeltext"})
ACTION_COLUMNS = frozenset({"action", "activity", "category"})  # class names, if no other column has them
LABEL_COLUMNS = frozenset({"label", "class", "target"})  # class names or class numbers
NUMBER_COLUMNS = frozenset(
    {"id", "labelid", "classid", "labelindex", "classindex", "labelnumber"}
)  # class numbers, if another column has the names
PART_COLUMNS = frozenset({"split", "subset", "part", "partition", "set", "usage", "phase", "mode"})
GROUP_COLUMNS = frozenset({"group", "groupid", "sourcevideo", "person", "subject"})
KNOWN_COLUMNS = (
    PATH_COLUMNS | NAME_COLUMNS | ACTION_COLUMNS | LABEL_COLUMNS | NUMBER_COLUMNS | PART_COLUMNS | GROUP_COLUMNS
)


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """One video of the table."""

    line: int
    path: str
    label: str  # class name, or class number if the table has no names; may be empty with `allow_empty_label`
    part: str  # train, val or test; empty if the table has no column for it
    group: str  # empty if the table has no column for it


@dataclass(frozen=True, kw_only=True)
class LabelledTable:
    """A table of labelled videos, and the columns that were recognised."""

    table: Table
    rows: tuple[LabelledRow, ...]
    path_column: str
    label_column: str
    part_column: str | None
    group_column: str | None
    unused: tuple[str, ...]  # columns that were not recognised

    def position(self, row: LabelledRow) -> str:
        """Return the position of a row, for messages."""
        return self.table.file.position(row.line)


def is_labelled_table(columns: Collection[str]) -> bool:
    """Return whether these column names are the header of a table of labelled videos.

    >>> is_labelled_table(["path", "label"]), is_labelled_table(["id", "name"])
    (True, False)
    """
    return any(column in PATH_COLUMNS for column in columns) and any(
        column in NAME_COLUMNS | ACTION_COLUMNS | LABEL_COLUMNS for column in columns
    )


def read_labelled_table(file: TextFile, *, allow_empty_label: bool = False) -> LabelledTable:
    """Read a table of labelled videos.

    With `allow_empty_label` a row may have an empty label, for a video that shows none of the classes.

    Raises:
        AnnotationError: the table is invalid; the message states the file, the line and the fault.
    """
    table = read_table(file, KNOWN_COLUMNS)
    path, label = table.column(PATH_COLUMNS), table.column(LABEL_COLUMNS)
    name = table.column(NAME_COLUMNS)
    if name is None and (label is None or all(is_number(row.cells[label]) for row in table.rows)):
        name = table.column(ACTION_COLUMNS)
    if path is None or (label is None and name is None):
        raise AnnotationError(
            f"{file.name}, line 1: a table of labelled videos needs a column for the path "
            f"({_join_sorted(PATH_COLUMNS)}) and one for the class "
            f"({_join_sorted(LABEL_COLUMNS | NAME_COLUMNS | ACTION_COLUMNS)}), its columns are: "
            f"{', '.join(filter(None, table.columns)) or 'none'}"
        )
    class_column = _find_class_column(table, label, name)
    part, group = table.column(PART_COLUMNS), table.column(GROUP_COLUMNS)
    used = {path, class_column, part, group} | ({label, name} if label and name else set())
    rows = tuple(
        _labelled_row(table, row, path, class_column, part, group, allow_empty_label=allow_empty_label)
        for row in table.rows
    )
    _check_unused(table, tuple(column for column in table.columns if column not in used), part)
    return LabelledTable(
        table=table,
        rows=rows,
        path_column=path,
        label_column=class_column,
        part_column=part,
        group_column=group,
        unused=tuple(column for column in table.columns if column not in used),
    )


def is_number(text: str) -> bool:
    """Return whether a label is a number rather than a name.

    >>> is_number("12"), is_number("12.0"), is_number("12 angry men")
    (True, True, False)
    """
    whole, _, rest = text.removeprefix("-").partition(".")
    return text.isascii() and whole.isdecimal() and (not rest or rest.isdecimal())


def _labelled_row(
    table: Table,
    row: TableRow,
    path: str,
    class_column: str,
    part: str | None,
    group: str | None,
    *,
    allow_empty_label: bool,
) -> LabelledRow:
    position, label = table.position(row), row.cells[class_column]
    if not row.cells[path] or not (label or allow_empty_label):
        raise AnnotationError(
            f"{position}: {path} and {class_column} must not be empty, got {row.cells[path]!r} and {label!r}"
        )
    parsed_part = None if part is None else parse_part(row.cells[part])
    if part is not None and parsed_part is None:
        raise AnnotationError(f"{position}: {part} must be train, val or test, got {row.cells[part]!r}")
    return LabelledRow(
        line=row.line,
        path=row.cells[path],
        label=label,
        part=parsed_part or "",
        group=row.cells[group] if group else "",
    )


def _find_class_column(table: Table, label: str | None, name: str | None) -> str:
    """Return the column of the class; check that numbers and names agree if there are columns for both.

    Raises:
        AnnotationError: there are two columns of names, or a number has several names, or a name several numbers.
    """
    if label is None or name is None:
        return label or name or ""
    number_of: dict[str, str] = {}
    name_of: dict[str, str] = {}
    for row in table.rows:
        number, word, position = row.cells[label], row.cells[name], table.position(row)
        if number and not is_number(number) and number != word:
            raise AnnotationError(
                f"{position}: {label} is {number!r} and {name} is {word!r}; which is the class? keep one column"
            )
        if name_of.setdefault(number, word) != word or number_of.setdefault(word, number) != number:
            raise AnnotationError(
                f"{position}: {label} {number} stands for {name_of[number]!r} and {word!r} in column {name}"
                if name_of[number] != word
                else f"{position}: {word!r} has the {label} {number_of[word]} and {number}"
            )
    return name


def _check_unused(table: Table, unused: tuple[str, ...], part: str | None) -> None:
    """Reject an unrecognised column that contains only parts (train, val, test).

    Raises:
        AnnotationError: there is such a column.
    """
    for column in unused:
        cells = {row.cells[column] for row in table.rows}
        if part is None and cells and all(parse_part(cell) for cell in cells):
            raise AnnotationError(
                f"{table.file.name}, line 1: the column {column or 'without a name'} contains "
                f"{', '.join(sorted(cells))}; call it split, or remove it"
            )


def _join_sorted(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
