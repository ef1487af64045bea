"""Read tables of labelled videos: find the columns of path, class, part and group.

A class is a name. If a table has numbers and names, the names are the classes, and both must agree in every row. If it
has only numbers, the caller needs a class list to interpret them as ids.
"""

from collections.abc import Collection
from dataclasses import dataclass

from serve.lists.errors import AnnotationError
from serve.lists.parts import part_of
from serve.lists.tables import Table, TableRow, read_table
from serve.lists.text import TextFile

PATHS = frozenset(
    {"path", "file", "video", "filename", "filepath", "videopath", "videofile", "videoname", "clip", "clippath"}
)
NAMES = frozenset({"name", "classname", "labelname", "labeltext"})
ACTIONS = frozenset({"action", "activity", "category"})  # also names, if no other column has them
LABELS = frozenset({"label", "class", "target"})  # names, or numbers
NUMBERS = frozenset(
    {"id", "labelid", "classid", "labelindex", "classindex", "labelnumber"}
)  # numbers in addition to a name
PARTS = frozenset({"split", "subset", "part", "partition", "set", "usage", "phase", "mode"})
GROUPS = frozenset({"group", "groupid", "sourcevideo", "person", "subject"})
KNOWN = PATHS | NAMES | ACTIONS | LABELS | NUMBERS | PARTS | GROUPS


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """One video of the table."""

    line: int
    path: str
    label: str  # a name, or a number if the table has no names; empty if allowed
    part: str  # train, val, test; empty without a column of parts
    group: str


@dataclass(frozen=True, kw_only=True)
class LabelledTable:
    """A table of labelled videos, and its columns."""

    table: Table
    rows: tuple[LabelledRow, ...]
    path_column: str
    label_column: str
    part_column: str | None
    group_column: str | None
    unused: tuple[str, ...]  # ignored columns

    def place(self, row: LabelledRow) -> str:
        """Return the position of a row, for messages."""
        return self.table.file.place(row.line)


def is_labelled_table(columns: Collection[str]) -> bool:
    """Return whether these column keys are the header of such a table.

    >>> is_labelled_table(["path", "label"]), is_labelled_table(["id", "name"])
    (True, False)
    """
    return any(column in PATHS for column in columns) and any(column in NAMES | ACTIONS | LABELS for column in columns)


def read_labelled_table(file: TextFile, *, may_lack_label: bool = False) -> LabelledTable:
    """Read a table of labelled videos.

    With `may_lack_label` a row without a label is a video of none of the classes, and has an empty label.

    Raises:
        AnnotationError: the table is invalid; names the file, the line and the fault.
    """
    table = read_table(file, KNOWN)
    path, label = table.column(PATHS), table.column(LABELS)
    name = table.column(NAMES)
    if name is None and (label is None or all(is_number(row.cells[label]) for row in table.rows)):
        name = table.column(ACTIONS)
    if path is None or (label is None and name is None):
        raise AnnotationError(
            f"{file.name}, line 1: a table of labelled videos has a column for the path ({_listed(PATHS)}) and one for "
            f"the class ({_listed(LABELS | NAMES | ACTIONS)}), found {', '.join(filter(None, table.columns)) or 'none'}"
        )
    of_class = _class_column(table, label, name)
    part, group = table.column(PARTS), table.column(GROUPS)
    used = {path, of_class, part, group} | ({label, name} if label and name else set())
    rows = tuple(_row(table, row, path, of_class, part, group, may_lack_label=may_lack_label) for row in table.rows)
    _check_unused(table, tuple(column for column in table.columns if column not in used), part)
    return LabelledTable(
        table=table,
        rows=rows,
        path_column=path,
        label_column=of_class,
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


def _row(
    table: Table,
    row: TableRow,
    path: str,
    of_class: str,
    part: str | None,
    group: str | None,
    *,
    may_lack_label: bool,
) -> LabelledRow:
    place, label = table.place(row), row.cells[of_class]
    if not row.cells[path] or not (label or may_lack_label):
        raise AnnotationError(f"{place}: {path} and {of_class} are needed, found {row.cells[path]!r} and {label!r}")
    found = ""
    if part is not None:
        known = part_of(row.cells[part])
        if known is None:
            raise AnnotationError(f"{place}: {part} is train, val or test, found {row.cells[part]!r}")
        found = known
    return LabelledRow(
        line=row.line, path=row.cells[path], label=label, part=found, group=row.cells[group] if group else ""
    )


def _class_column(table: Table, label: str | None, name: str | None) -> str:
    """Return the column that names the class; check that numbers and names agree.

    Raises:
        AnnotationError: there are two columns of names, or a number has two names.
    """
    if label is None or name is None:
        return label or name or ""
    number_of: dict[str, str] = {}
    name_of: dict[str, str] = {}
    for row in table.rows:
        number, word, place = row.cells[label], row.cells[name], table.place(row)
        if number and not is_number(number) and number != word:
            raise AnnotationError(
                f"{place}: {label} is {number!r} and {name} is {word!r}; which is the class? keep one column"
            )
        if name_of.setdefault(number, word) != word or number_of.setdefault(word, number) != number:
            raise AnnotationError(
                f"{place}: {label} {number} stands for {name_of[number]!r} and {word!r} in column {name}"
                if name_of[number] != word
                else f"{place}: {word!r} has the {label} {number_of[word]} and {number}"
            )
    return name


def _check_unused(table: Table, unused: tuple[str, ...], part: str | None) -> None:
    """Refuse a column under another name whose cells are all parts.

    Raises:
        AnnotationError: there is such a column; names it.
    """
    for column in unused:
        cells = {row.cells[column] for row in table.rows}
        if part is None and cells and all(part_of(cell) for cell in cells):
            raise AnnotationError(
                f"{table.file.name}, line 1: the column {column or 'without a name'} holds "
                f"{', '.join(sorted(cells))}; call it split, or leave it out"
            )


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
