"""Read lists that are CSV or TSV tables with a header, in the format of `serve.lists.tables`."""

from pathlib import Path

from serve.lists.errors import AnnotationError
from serve.lists.labelled_table import LabelledTable, is_labelled_table, read_labelled_table
from serve.lists.tables import DELIMITERS, parse_header
from serve.lists.text import read_text
from training.data.lists.paths import resolve_path
from training.data.lists.rows import Listing, ListOptions, ListRow
from training.data.lists.text_lists import detect_text_kind

INDEX_NAME = "index.csv"  # table inside a folder of videos
KINETICS_COLUMNS = frozenset({"youtubeid", "timestart", "timeend"})  # column names are read without underscores


def read_table_list(path: Path, options: ListOptions) -> Listing:
    """Read a table of labelled videos, or the `index.csv` of a folder.

    Raises:
        AnnotationError: the table is invalid; the message contains the file and the line.
    """
    path = path / INDEX_NAME if path.is_dir() else path
    table = read_labelled_table(read_text(path))
    rows = tuple(
        ListRow(
            path=resolve_path(row.path, path, options.root, table.position(row)),
            name=row.label,
            split=row.part,
            group=row.group,
            location=table.position(row),
        )
        for row in table.rows
    )
    return Listing(path=path, kind="csv", description=_describe(table), rows=rows, notes=_describe_unused(table))


def detect_table_kind(path: Path, options: ListOptions) -> str:
    """Return `csv` for a table with a header, and otherwise the kind of a list without a header.

    Raises:
        AnnotationError: the kind cannot be detected, or the list belongs to a published data set with its own reader.
    """
    file = read_text(path, raw_paths=True)
    _, columns = parse_header(file, KINETICS_COLUMNS | {"path", "file", "video", "label", "name"})
    if set(columns) >= KINETICS_COLUMNS:
        raise AnnotationError(f"{path.name} has the columns of a Kinetics table; use --source kinetics")
    if is_labelled_table(columns) or (path.suffix.lower() in (".csv", ".tsv") and _is_header(columns)):
        return "csv"
    return detect_text_kind(path, options)


def _is_header(columns: tuple[str, ...]) -> bool:
    """Return whether a first line without known column names looks like a header: no cell ends with a digit."""
    return not any(column[-1:].isdecimal() for column in columns)


def _describe(table: LabelledTable) -> str:
    used = [table.path_column, table.label_column, table.part_column, table.group_column]
    return (
        f"table with a header, {DELIMITERS[table.table.delimiter]} between fields, {table.table.file.encoding}; "
        f"columns {', '.join(column for column in used if column)}"
    )


def _describe_unused(table: LabelledTable) -> tuple[str, ...]:
    unused = [column or "(without a name)" for column in table.unused]
    return (f"ignored columns: {', '.join(unused)}",) if unused else ()
