"""Reader of Kinetics-400, -600 and -700 in their published layout.

annotations/train.csv     label,youtube_id,time_start,time_end,split (more columns may follow)
train/3vBb2lPFVLg_000012_000022.mp4      or  train/abseiling/3vBb2lPFVLg_000012_000022.mp4
"""

from collections.abc import Sequence
from pathlib import Path

from serve.lists.errors import AnnotationError
from serve.lists.parts import PARTS, part_of, part_of_folder
from serve.lists.tables import TableRow, read_table
from serve.lists.text import TextFile, read_text
from training.data.lists.folders import read_tree
from training.data.lists.published.places import missing_note
from training.data.lists.rows import Listing, ListOptions, ListRow

COLUMNS = ("youtubeid", "timestart", "timeend", "split")
KNOWN = frozenset({*COLUMNS, "label", "iscc", "duration", "url"})


def read_kinetics(path: Path, options: ListOptions) -> Listing:
    """Read one table, or all tables of a folder, and find their videos.

    Raises:
        AnnotationError: a table is invalid, or none of its videos exists; names the file and the line.
    """
    tables = [path] if path.is_file() else _tables(path)
    above = path.parent.parent if path.parent.name == "annotations" else path.parent
    base = options.root or (path if path.is_dir() else above)
    tree = read_tree(base)
    places = {file.stem: base / file for file in reversed(tree.videos)}
    rows: list[ListRow] = []
    notes: list[str] = []
    for table in tables:
        text = read_text(table)
        found, unlabelled = _rows(text, places, base)
        rows += found
        if unlabelled:
            notes.append(f"{table.name} has {unlabelled} videos without label, which are ignored")
    if not rows:
        raise AnnotationError(f"{path}: the tables have no labelled video")
    present = {row.path for row in rows} & set(places.values())
    absent = missing_note([row.path for row in rows])
    if not present:
        raise AnnotationError(
            f"Kinetics: no video such as {rows[0].path.name} is found below {base}; give their folder with --root"
        )
    left = len(tree.videos) - len(present)
    notes += [*absent, *([f"{left} videos below {base} are in no table and are ignored"] if left else [])]
    names = tuple(sorted({row.name for row in rows if row.name is not None}))
    form = f"Kinetics, {', '.join(table.name for table in tables)}, videos in {base}"
    return Listing(path=path, kind="kinetics", form=form, rows=tuple(rows), notes=tuple(notes), class_names=names)


def _tables(path: Path) -> list[Path]:
    found = sorted(file for folder in (path / "annotations", path) for file in folder.glob("*.csv"))
    if not found:
        raise AnnotationError(f"{path}: Kinetics has its tables in annotations/*.csv; none was found")
    parts = {file: part_of_folder(file.stem) for file in found}
    return sorted(found, key=lambda file: (PARTS.index(parts[file] or "train"), file.name))


def _rows(text: TextFile, places: dict[str, Path], base: Path) -> tuple[list[ListRow], int]:
    table = read_table(text, KNOWN)
    absent = [column for column in COLUMNS if column not in table.columns]
    if absent:
        raise AnnotationError(
            f"{text.name}, line 1: a Kinetics table has the columns label, youtube_id, time_start, time_end and split, "
            f"found {', '.join(table.columns)}"
        )
    rows, unlabelled = [], 0
    for row in table.rows:
        label, part = row.cells.get("label", ""), part_of(row.cells["split"])
        if part is None:
            raise AnnotationError(f"{table.place(row)}: split is train, validate or test, found {row.cells['split']!r}")
        if not label:
            unlabelled += 1
            continue
        stems = _stems(row, table.place(row))
        path = next((places[stem] for stem in stems if stem in places), base / part / f"{stems[0]}.mp4")
        rows.append(
            ListRow(
                path=path, name=label, split=part, group=f"kinetics:{row.cells['youtubeid']}", place=table.place(row)
            )
        )
    return rows, unlabelled


def _stems(row: TableRow, place: str) -> Sequence[str]:
    """Return the file names without suffix that downloaders use for a clip, the published one first."""
    video = row.cells["youtubeid"]
    times = []
    for column in ("timestart", "timeend"):
        try:
            times.append(round(float(row.cells[column])))
        except ValueError as error:
            raise AnnotationError(f"{place}: {column} must be seconds, found {row.cells[column]!r}") from error
    start, end = times
    if not video or not 0 <= start < end:
        raise AnnotationError(f"{place}: a youtube_id and increasing times are needed, found {video!r}, {start}, {end}")
    return f"{video}_{start:06d}_{end:06d}", f"{video}_{start}_{end}", video
