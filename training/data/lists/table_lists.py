"""Lists as tables: CSV and TSV with a header, in the format of `serve.lists.tables`."""

from pathlib import Path

from serve.lists.errors import AnnotationError
from serve.lists.labelled_table import LabelledTable, is_labelled_table, read_labelled_table
from serve.lists.tables import DELIMITERS, header_columns
from serve.lists.text import read_text
from training.data.lists.paths import located
from training.data.lists.rows import Listing, ListOptions, ListRow
from training.data.lists.text_lists import kind_of_text

INDEX = "index.csv"  # list inside a folder of videos
KINETICS = frozenset({"youtubeid", "timestart", "timeend"})


def read_table_list(path: Path, options: ListOptions) -> Listing:
    """Read a table of labelled videos, or the `index.csv` of a folder.

    Raises:
        AnnotationError: the table is invalid; names the file and the line.
    """
    path = path / INDEX if path.is_dir() else path
    found = read_labelled_table(read_text(path))
    rows = tuple(
        ListRow(
            path=located(row.path, path, options.root, found.place(row)),
            name=row.label,
            split=row.part,
            group=row.group,
            place=found.place(row),
        )
        for row in found.rows
    )
    return Listing(path=path, kind="csv", form=_form(found), rows=rows, notes=_notes(found))


def kind_of_table(path: Path, options: ListOptions) -> str:
    """Return `csv` for a table with a header, else the kind of a list without one.

    Raises:
        AnnotationError: it is neither, or is the published table of a data set with its own reader.
    """
    _, columns = header_columns(read_text(path, raw_paths=True), KINETICS | {"path", "file", "video", "label", "name"})
    if set(columns) >= KINETICS:
        raise AnnotationError(f"{path.name} has the columns of a Kinetics table: read it with --source kinetics")
    if is_labelled_table(columns) or (path.suffix.lower() in (".csv", ".tsv") and _is_header(columns)):
        return "csv"
    return kind_of_text(path, options)


def _is_header(columns: tuple[str, ...]) -> bool:
    """Return whether a first line without known columns looks like a header: no cell ends in a number."""
    return not any(column[-1:].isdecimal() for column in columns)


def _form(found: LabelledTable) -> str:
    used = [found.path_column, found.label_column, found.part_column, found.group_column]
    return (
        f"table with a header, {DELIMITERS[found.table.delimiter]} between fields, {found.table.file.encoding}; "
        f"columns {', '.join(column for column in used if column)}"
    )


def _notes(found: LabelledTable) -> tuple[str, ...]:
    unused = [column or "(without a name)" for column in found.unused]
    return (f"ignored columns: {', '.join(unused)}",) if unused else ()
