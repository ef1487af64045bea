"""Read Kinetics-400, -600 and -700 in their published layout.

annotations/train.csv     label,youtube_id,time_start,time_end,split (and optionally other columns)
train/3vBb2lPFVLg_000012_000022.mp4      or  train/abseiling/3vBb2lPFVLg_000012_000022.mp4
"""

from collections.abc import Sequence
from pathlib import Path

from serve.lists.errors import AnnotationError
from serve.lists.parts import PARTS, parse_folder_part, parse_part
from serve.lists.tables import TableRow, read_table
from serve.lists.text import TextFile, read_text
from training.data.lists.folders import read_tree
from training.data.lists.published.files import missing_notes
from training.data.lists.rows import Listing, ListOptions, ListRow

REQUIRED_COLUMNS = ("youtubeid", "timestart", "timeend", "split")  # column names are read without underscores
KNOWN_COLUMNS = frozenset({*REQUIRED_COLUMNS, "label", "iscc", "duration", "url"})
PUBLISHED_NAMES = {"timestart": "time_start", "timeend": "time_end"}


def read_kinetics(path: Path, options: ListOptions) -> Listing:
    """Read one table, or all tables of a folder, and find their videos.

    Raises:
        AnnotationError: a table is invalid, or none of its videos exists; the message contains the file and the line.
    """
    tables = [path] if path.is_file() else _find_tables(path)
    dataset_root = path.parent.parent if path.parent.name == "annotations" else path.parent
    base = options.root or (path if path.is_dir() else dataset_root)
    tree = read_tree(base)
    paths_by_stem = {video.stem: base / video for video in reversed(tree.videos)}
    rows: list[ListRow] = []
    notes: list[str] = []
    for table in tables:
        text = read_text(table)
        new_rows, num_unlabelled = _read_rows(text, paths_by_stem, base)
        rows += new_rows
        if num_unlabelled:
            notes.append(f"{table.name} has {num_unlabelled} videos without a label, which are ignored")
    if not rows:
        raise AnnotationError(f"{path}: the tables contain no labelled video")
    existing = {row.path for row in rows} & set(paths_by_stem.values())
    if not existing:
        raise AnnotationError(
            f"Kinetics: none of the listed videos (for example {rows[0].path.name}) was found below {base}; "
            "give the folder of the videos with --root"
        )
    notes += missing_notes([row.path for row in rows])
    if num_unlisted := len(tree.videos) - len(existing):
        notes.append(f"{num_unlisted} videos below {base} are in no table and are ignored")
    names = tuple(sorted({row.name for row in rows if row.name is not None}))
    return Listing(
        path=path,
        kind="kinetics",
        description=f"Kinetics, {', '.join(table.name for table in tables)}, videos in {base}",
        rows=tuple(rows),
        notes=tuple(notes),
        class_names=names,
    )


def _find_tables(path: Path) -> list[Path]:
    tables = sorted(file for folder in (path / "annotations", path) for file in folder.glob("*.csv"))
    if not tables:
        raise AnnotationError(f"{path}: no table was found; the tables of Kinetics are in annotations/*.csv")
    splits = {file: parse_folder_part(file.stem) for file in tables}
    return sorted(tables, key=lambda file: (PARTS.index(splits[file] or "train"), file.name))


def _read_rows(text: TextFile, paths_by_stem: dict[str, Path], base: Path) -> tuple[list[ListRow], int]:
    """Return (labelled rows, number of rows without a label)."""
    table = read_table(text, KNOWN_COLUMNS)
    if any(column not in table.columns for column in REQUIRED_COLUMNS):
        raise AnnotationError(
            f"{text.name}, line 1: a Kinetics table must have the columns label, youtube_id, time_start, time_end and "
            f"split, got {', '.join(table.columns)}"
        )
    rows, num_unlabelled = [], 0
    for row in table.rows:
        label, split = row.cells.get("label", ""), parse_part(row.cells["split"])
        if split is None:
            raise AnnotationError(
                f"{table.position(row)}: split must be train, validate or test, got {row.cells['split']!r}"
            )
        if not label:
            num_unlabelled += 1
            continue
        stems = _file_stems(row, table.position(row))
        default = base / split / f"{stems[0]}.mp4"
        path = next((paths_by_stem[stem] for stem in stems if stem in paths_by_stem), default)
        group = f"kinetics:{row.cells['youtubeid']}"
        rows.append(ListRow(path=path, name=label, split=split, group=group, location=table.position(row)))
    return rows, num_unlabelled


def _file_stems(row: TableRow, location: str) -> Sequence[str]:
    """Return the file names, without suffix, that download tools use for a clip; the published name is the first."""
    video = row.cells["youtubeid"]
    times = []
    for column in ("timestart", "timeend"):
        try:
            times.append(round(float(row.cells[column])))
        except ValueError as error:
            name = PUBLISHED_NAMES[column]
            raise AnnotationError(f"{location}: {name} must be in seconds, got {row.cells[column]!r}") from error
    start, end = times
    if not video or not 0 <= start < end:
        raise AnnotationError(
            f"{location}: youtube_id must not be empty and time_end must be greater than time_start, "
            f"got {video!r}, {start}, {end}"
        )
    return f"{video}_{start:06d}_{end:06d}", f"{video}_{start}_{end}", video
