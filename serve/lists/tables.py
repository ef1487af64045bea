"""Tables with a header line, CSV and TSV: one grammar for lists of videos, class lists and vocabularies.

- The header decides the delimiter: comma, semicolon, tab or full-width comma, the one that gives the most known
columns.
- Cells follow RFC 4180: quotes around a cell that holds the delimiter or a quote, a doubled quote for a quote.
- Every row has the cells of the header. More cells than columns are refused, since they are usually a text with
  an unquoted comma. Fewer cells are refused as well, unless the caller allows rows that end early.
- White space after a delimiter is refused if the header has none: a text with an unquoted comma looks like that
  even when the number of cells happens to be right.
- A line break inside a cell is refused: it is usually a quote that was never closed.
- Column names are compared without case, white space, hyphens and underscores.
"""

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from serve.lists.errors import AnnotationError
from serve.lists.text import TextFile

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "，": "full-width comma"}
MOST_SHOWN = 60  # characters of a cell in a message


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row; cells are stripped of white space."""

    line: int  # first line of the row
    cells: Mapping[str, str]  # by column key


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that was read."""

    file: TextFile
    delimiter: str
    columns: tuple[str, ...]  # keys, in order; empty for a column without a name
    rows: tuple[TableRow, ...]

    def place(self, row: TableRow) -> str:
        """Return the position of a row, for messages."""
        return self.file.place(row.line)

    def column(self, names: Collection[str]) -> str | None:
        """Return the column of one of these names, or None.

        Raises:
            AnnotationError: there are several.
        """
        found = [name for name in self.columns if name in names]
        if len(found) > 1:
            raise AnnotationError(
                f"{self.file.name}, line 1: the columns {' and '.join(found)} mean the same; keep one"
            )
        return found[0] if found else None


def column_key(name: str) -> str:
    """Return the normalised form of a column name.

    >>> column_key(" Class-Name ")
    'classname'
    """
    return "".join(letter for letter in name.casefold() if letter not in " -_\t\ufeff")


def header_columns(file: TextFile, known: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """Return (delimiter, column keys) of the first line; without a known column it is not a header.

    >>> header_columns(TextFile(name="a", text="Path; Label", encoding="UTF-8"), {"path", "label"})
    (';', ('path', 'label'))
    """
    first = next((line for _, line in file.lines()), "")
    found = []
    for delimiter in DELIMITERS:
        columns = tuple(
            column_key(cell) for cell in next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
        )
        found.append((sum(column in known for column in columns), len(columns), delimiter, columns))
    best = max(found, key=lambda item: item[:2])
    return best[2], best[3]


def read_table(file: TextFile, known: Collection[str], *, may_end_early: bool = False) -> Table:
    """Read a table whose header names at least one of the known columns.

    Raises:
        AnnotationError: the table is invalid; names the file, the line and the fault.
    """
    delimiter, columns = header_columns(file, known)
    named = [column for column in columns if column]
    if len(set(named)) < len(named):
        twice = next(column for column in named if named.count(column) > 1)
        raise AnnotationError(f"{file.name}, line 1: the column {twice} is listed twice")
    is_spaced = _is_spaced(file, delimiter)
    reader = csv.reader(
        io.StringIO(file.text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=is_spaced
    )
    rows: list[TableRow] = []
    line, is_header = 1, True
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if is_header:
                is_header = False
                continue
            place = file.place(start)
            _check_row(cells, columns, place, delimiter=delimiter, is_spaced=is_spaced, may_end_early=may_end_early)
            padded = [cell.strip() for cell in cells] + [""] * (len(columns) - len(cells))
            rows.append(TableRow(line=start, cells=dict(zip(columns, padded, strict=False))))
    except csv.Error as error:
        raise AnnotationError(f"{file.place(line)}: {error}") from error
    return Table(file=file, delimiter=delimiter, columns=columns, rows=tuple(rows))


def _is_spaced(file: TextFile, delimiter: str) -> bool:
    first = next((line for _, line in file.lines()), "")
    return delimiter != "\t" and f"{delimiter} " in first


def _check_row(
    cells: list[str], columns: tuple[str, ...], place: str, *, delimiter: str, is_spaced: bool, may_end_early: bool
) -> None:
    """Refuse a row that does not fit the header.

    Raises:
        AnnotationError: it does not fit; names the position and the cell.
    """
    kind = DELIMITERS[delimiter]
    surplus = [cell for cell in cells[len(columns) :] if cell.strip()]
    if surplus:
        raise AnnotationError(
            f"{place}: {len(cells)} fields where the header names {len(columns)}, the surplus one is "
            f"{_shown(surplus[0])}; put quotes around a text that holds a {kind}"
        )
    if len(cells) < len(columns) and not may_end_early:
        missing = ", ".join(columns[len(cells) :])
        raise AnnotationError(f"{place}: {len(cells)} of {len(columns)} fields, {missing} is missing")
    for cell in cells:
        if "\n" in cell or "\r" in cell:
            raise AnnotationError(f"{place}: a line break inside quotes; is a quote not closed? {_shown(cell)}")
    for cell in cells[1:]:
        if delimiter != "\t" and not is_spaced and cell.strip() and cell[:1].isspace():
            raise AnnotationError(
                f"{place}: the field {_shown(cell)} begins with a space; put quotes around a text that holds a "
                f"{kind}, or remove the space"
            )


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= MOST_SHOWN else f"{cell[:MOST_SHOWN]}...")
