"""Reader of UCF101 in its published layout.

ucfTrainTestlist/classInd.txt          `1 ApplyEyeMakeup`, ids from 1
ucfTrainTestlist/trainlist01.txt       `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`
ucfTrainTestlist/testlist01.txt        `ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`, without the id
UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
"""

import re
from pathlib import Path

from serve.independence import source_of_name
from serve.lists.errors import AnnotationError
from serve.lists.text import read_text
from training.data.lists.class_lists import ClassList, read_class_list
from training.data.lists.published.places import (
    check_file_name,
    chosen_fold,
    find_base,
    folders_with_lists,
    missing_note,
)
from training.data.lists.rows import Listing, ListOptions, ListRow

LIST = re.compile(r"(?P<part>train|test)list0(?P<fold>[123])\.txt")
LINE = re.compile(r"(?P<folder>[^/\\]+)[/\\](?P<file>v_.+_g[0-9]{2}_c[0-9]{2}\.\w+)(?:\s+(?P<id>[0-9]+))?")


def read_ucf101(path: Path, options: ListOptions) -> Listing:
    """Read the lists of a fold, or one list file.

    Raises:
        AnnotationError: files are missing, or a line is invalid; names the file and the line.
    """
    lists = _list_files(path, options)
    folder = lists[0].parent
    if not (folder / "classInd.txt").is_file():
        raise AnnotationError(f"{folder}: UCF101's classInd.txt is needed beside {lists[0].name}")
    classes = read_class_list(folder / "classInd.txt")
    lines = [pair for file in lists for pair in _lines(file, classes)]
    files = [file for _, file in lines]
    around = (path, folder, folder.parent) if path.is_dir() else (folder, folder.parent)
    candidates = [base / name for base in around for name in ("UCF-101", "UCF101", "videos", "")]
    base = find_base(candidates, files, what="UCF101", options=options)
    rows = tuple(
        ListRow(
            path=base / file, label=row.label, split=row.split, group=source_of_name(file.name) or "", place=row.place
        )
        for row, file in lines
    )
    return Listing(
        path=path,
        kind="ucf101",
        form=f"UCF101, {' and '.join(file.name for file in lists)}, videos in {base}",
        rows=rows,
        notes=missing_note([row.path for row in rows]),
        class_names=classes.names,
    )


def _list_files(path: Path, options: ListOptions) -> list[Path]:
    if path.is_file():
        check_file_name(path, LIST, options, usual="UCF101's lists are named trainlist01.txt, testlist01.txt and so on")
        return [path]
    fold = chosen_fold(options, ("1", "2", "3"), what="UCF101 has three folds")
    for folder in folders_with_lists(path, "ucfTrainTestlist"):
        found = [folder / f"{part}list0{fold}.txt" for part in ("train", "test")]
        if all(file.is_file() for file in found):
            return found
    raise AnnotationError(f"{path}: no trainlist0{fold}.txt and testlist0{fold}.txt found, nor in ucfTrainTestlist")


def _lines(file: Path, classes: ClassList) -> list[tuple[ListRow, Path]]:
    """Return (row without base folder, path below the base) of each line."""
    part = LIST.fullmatch(file.name)
    text, numbers = read_text(file), {name.casefold(): number for number, name in enumerate(classes.names)}
    found = []
    for line, content in text.lines():
        place, match = text.place(line), LINE.fullmatch(content.strip())
        if match is None or part is None:
            raise AnnotationError(f"{place}: expected `CLASS/v_CLASS_g01_c01.avi`, found {content.strip()!r}")
        label = numbers.get(match["folder"].casefold())
        if label is None:
            raise AnnotationError(f"{place}: classInd.txt has no class {match['folder']!r}")
        known = label + (classes.first_id or 0)
        if match["id"] is not None and int(match["id"]) != known:
            raise AnnotationError(f"{place}: {match['folder']} has the id {match['id']}, classInd.txt says {known}")
        path = Path(match["folder"], match["file"])
        found.append((ListRow(path=path, label=label, split=part["part"], place=place), path))
    if not found:
        raise AnnotationError(f"{file.name}: the file is empty")
    return found
