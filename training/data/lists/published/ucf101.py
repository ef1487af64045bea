"""Read UCF101 in its published layout.

ucfTrainTestlist/classInd.txt          `1 ApplyEyeMakeup`; ids start at 1
ucfTrainTestlist/trainlist01.txt       `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`
ucfTrainTestlist/testlist01.txt        `ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`, without an id
UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
"""

import re
from dataclasses import replace
from pathlib import Path

from serve.independence import source_of_name
from serve.lists.errors import AnnotationError
from serve.lists.text import read_text
from training.data.lists.class_lists import ClassList, read_class_list
from training.data.lists.published.files import (
    check_file_name,
    find_video_folder,
    list_folder_candidates,
    missing_notes,
    select_fold,
)
from training.data.lists.rows import Listing, ListOptions, ListRow

LIST_FILE_NAME = re.compile(r"(?P<split>train|test)list0(?P<fold>[123])\.txt")
LINE = re.compile(r"(?P<folder>[^/\\]+)[/\\](?P<file>v_.+_g[0-9]{2}_c[0-9]{2}\.\w+)(?:\s+(?P<id>[0-9]+))?")


def read_ucf101(path: Path, options: ListOptions) -> Listing:
    """Read the lists of a fold, or one list file.

    Raises:
        AnnotationError: files are missing, or a line is invalid; the message contains the file and the line.
    """
    lists = _find_list_files(path, options)
    folder = lists[0].parent
    if not (folder / "classInd.txt").is_file():
        raise AnnotationError(f"{folder}: classInd.txt is missing; it must be beside {lists[0].name}")
    classes = read_class_list(folder / "classInd.txt")
    relative_rows = [row for file in lists for row in _read_rows(file, classes)]
    parents = (path, folder, folder.parent) if path.is_dir() else (folder, folder.parent)
    candidates = [parent / name for parent in parents for name in ("UCF-101", "UCF101", "videos", "")]
    base = find_video_folder(candidates, [row.path for row in relative_rows], dataset="UCF101", options=options)
    rows = tuple(replace(row, path=base / row.path, group=source_of_name(row.path.name) or "") for row in relative_rows)
    return Listing(
        path=path,
        kind="ucf101",
        description=f"UCF101, {' and '.join(file.name for file in lists)}, videos in {base}",
        rows=rows,
        notes=missing_notes([row.path for row in rows]),
        class_names=classes.names,
    )


def _find_list_files(path: Path, options: ListOptions) -> list[Path]:
    if path.is_file():
        expected = "a list of UCF101 must be named like trainlist01.txt or testlist01.txt"
        check_file_name(path, LIST_FILE_NAME, options, expected=expected)
        return [path]
    fold = select_fold(options, ("1", "2", "3"), reason="UCF101 has three folds")
    for folder in list_folder_candidates(path, "ucfTrainTestlist"):
        files = [folder / f"{split}list0{fold}.txt" for split in ("train", "test")]
        if all(file.is_file() for file in files):
            return files
    raise AnnotationError(
        f"{path}: trainlist0{fold}.txt and testlist0{fold}.txt were not found in this folder or its subfolders, "
        "usually ucfTrainTestlist"
    )


def _read_rows(file: Path, classes: ClassList) -> list[ListRow]:
    """Return the rows of a list, with relative paths."""
    list_match = LIST_FILE_NAME.fullmatch(file.name)
    text, label_of = read_text(file), {name.casefold(): label for label, name in enumerate(classes.names)}
    rows = []
    for number, line in text.lines():
        location, match = text.position(number), LINE.fullmatch(line.strip())
        if match is None or list_match is None:
            raise AnnotationError(f"{location}: expected `CLASS/v_CLASS_g01_c01.avi`, got {line.strip()!r}")
        label = label_of.get(match["folder"].casefold())
        if label is None:
            raise AnnotationError(f"{location}: classInd.txt has no class {match['folder']!r}")
        class_id = label + (classes.first_id or 0)
        if match["id"] is not None and int(match["id"]) != class_id:
            raise AnnotationError(
                f"{location}: the id of {match['folder']} is {match['id']}, but {class_id} in classInd.txt"
            )
        path = Path(match["folder"], match["file"])
        rows.append(ListRow(path=path, label=label, split=list_match["split"], location=location))
    if not rows:
        raise AnnotationError(f"{file.name}: the file is empty")
    return rows
