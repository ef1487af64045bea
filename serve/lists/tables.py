"""Read CSV and TSV tables with a header line; lists of videos, class lists and vocabularies have the same rules.

- The delimiter is the comma, semicolon, tab or full-width comma that splits the header into the most known columns.
- Cells follow RFC 4180: a cell that contains the delimiter or a quote is quoted, and quotes inside are doubled.
- Every row must have as many cells as the header. Surplus cells usually come from text with an unquoted comma. Missing
  cells are an error unless the caller allows short rows.
- Whitespace after a delimiter is an error unless the header has it too, since it usually comes from text with an
  unquoted comma, even if the number of cells is correct.
- A line break inside a cell is an error, since it usually comes from a quote that is not closed.
- Column names are compared ignoring case, whitespace, hyphens and underscores.
"""

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from serve.lists.errors import AnnotationError
from serve.lists.text import TextFile

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "，": "full-width comma"}
MAX_CELL_CHARS_SHOWN = 60  # in messages


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row; cells have no surrounding whitespace."""

    line: int  # first line of the row
    cells: Mapping[str, str]  # by normalised column name


@dataclass(frozen=True, kw_only=True)
class Table:
    """The content of a table."""

    file: TextFile
    delimiter: str
    columns: tuple[str, ...]  # normalised names, in order; empty for a column without a name
    rows: tuple[TableRow, ...]

    def position(self, row: TableRow) -> str:
        """Return the position of a row, for messages."""
        return self.file.position(row.line)

    def column(self, names: Collection[str]) -> str | None:
        """Return the column that has one of these names, or None.

        Raises:
            AnnotationError: several columns match.
        """
        matches = [name for name in self.columns if name in names]
        if len(matches) > 1:
            raise AnnotationError(
                f"{self.file.name}, line 1: the columns {' and '.join(matches)} mean the same; keep one"
            )
        return matches[0] if matches else None


def normalize_column(name: str) -> str:
    """Return the normalised form of a column name.

    >>> normalize_column(" Class-Name ")
    'classname'
    """
    return "".join(letter for letter in name.casefold() if letter not in " -_\t\ufeff")


def parse_header(file: TextFile, known: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """Return (delimiter, normalised column names) of the first line, which may not be a header.

    >>> parse_header(TextFile(name="a", text="Path; Label", encoding="UTF-8"), {"path", "label"})
    (';', ('path', 'label'))
    """
    first = next((line for _, line in file.lines()), "")
    candidates = []
    for delimiter in DELIMITERS:
        columns = tuple(
            normalize_column(cell) for cell in next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
        )
        candidates.append((sum(column in known for column in columns), len(columns), delimiter, columns))
    _, _, delimiter, columns = max(candidates, key=lambda candidate: candidate[:2])
    return delimiter, columns


def read_table(file: TextFile, known: Collection[str], *, allow_short_rows: bool = False) -> Table:
    """Read a table; `known` are the column names by which the delimiter is detected.

    Raises:
        AnnotationError: the table is invalid; the message states the file, the line and the fault.
    """
    delimiter, columns = parse_header(file, known)
    named = [column for column in columns if column]
    if len(set(named)) < len(named):
        twice = next(column for column in named if named.count(column) > 1)
        raise AnnotationError(f"{file.name}, line 1: the column {twice} is listed twice")
    has_spaces = _has_space_after_delimiter(file, delimiter)
    reader = csv.reader(
        io.StringIO(file.text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=has_spaces
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
            _check_row(
                cells,
                columns,
                file.position(start),
                delimiter=delimiter,
                has_spaces=has_spaces,
                allow_short_rows=allow_short_rows,
            )
            padded = [cell.strip() for cell in cells] + [""] * (len(columns) - len(cells))
            rows.append(TableRow(line=start, cells=dict(zip(columns, padded, strict=False))))
    except csv.Error as error:
        raise AnnotationError(f"{file.position(line)}: {error}") from error
    return Table(file=file, delimiter=delimiter, columns=columns, rows=tuple(rows))


def _has_space_after_delimiter(file: TextFile, delimiter: str) -> bool:
    first = next((line for _, line in file.lines()), "")
    return delimiter != "\t" and f"{delimiter} " in first


def _check_row(
    cells: list[str],
    columns: tuple[str, ...],
    position: str,
    *,
    delimiter: str,
    has_spaces: bool,
    allow_short_rows: bool,
) -> None:
    """Check that a row fits the header.

    Raises:
        AnnotationError: the row does not fit; the message states the position and the cell.
    """
    delimiter_name = DELIMITERS[delimiter]
    surplus = [cell for cell in cells[len(columns) :] if cell.strip()]
    if surplus:
        raise AnnotationError(
            f"{position}: {len(cells)} fields where the header names {len(columns)}, the first surplus field is "
            f"{_format_cell(surplus[0])}; put quotes around text that contains a {delimiter_name}"
        )
    if len(cells) < len(columns) and not allow_short_rows:
        missing = ", ".join(columns[len(cells) :])
        raise AnnotationError(f"{position}: {len(cells)} of {len(columns)} fields, {missing} is missing")
    for cell in cells:
        if "\n" in cell or "\r" in cell:
            raise AnnotationError(
                f"{position}: a line break inside quotes; is a quote not closed? {_format_cell(cell)}"
            )
    for cell in cells[1:]:
        if delimiter != "\t" and not has_spaces and cell.strip() and cell[:1].isspace():
            raise AnnotationError(
                f"{position}: the field {_format_cell(cell)} begins with a space; put quotes around text that contains "
                f"a {delimiter_name}, or remove the space"
            )


def _format_cell(cell: str) -> str:
    return repr(cell if len(cell) <= MAX_CELL_CHARS_SHOWN else f"{cell[:MAX_CELL_CHARS_SHOWN]}...")
