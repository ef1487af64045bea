"""Reader of HMDB51 in its published layout.

testTrainMulti_7030_splits/brush_hair_test_split1.txt     `NAME.avi 1`: 0 unused, 1 train, 2 test
hmdb51_org/brush_hair/NAME.avi
"""

import re
from pathlib import Path

from serve.lists.errors import AnnotationError
from serve.lists.text import read_text
from training.data.lists.published.places import (
    check_file_name,
    chosen_fold,
    find_base,
    folders_with_lists,
    missing_note,
)
from training.data.lists.rows import Listing, ListOptions, ListRow

SPLIT = re.compile(r"(?P<name>.+)_test_split(?P<fold>[123])\.txt")
LINE = re.compile(r"(?P<file>.+\.\w+)\s+(?P<number>[0-9]+)")
PART = {"1": "train", "2": "test"}


def read_hmdb51(path: Path, options: ListOptions) -> Listing:
    """Read all split files of a fold, or a single one with a single class.

    Raises:
        AnnotationError: files are missing, or a line is invalid; names the file and the line.
    """
    files = _split_files(path, options)
    names = [match["name"] for file in files if (match := SPLIT.fullmatch(file.name))]
    rows, unused = [], 0
    for label, (name, file) in enumerate(zip(names, files, strict=True)):
        text = read_text(file)
        for number, line in text.lines():
            match = LINE.fullmatch(line.strip())
            if match is None or match["number"] not in ("0", "1", "2"):
                raise AnnotationError(
                    f"{text.place(number)}: expected `NAME.avi` and 0, 1 or 2, found {line.strip()!r}"
                )
            if match["number"] == "0":
                unused += 1
                continue
            found = Path(name, match["file"])
            rows.append(ListRow(path=found, label=label, split=PART[match["number"]], place=text.place(number)))
    if not rows:
        raise AnnotationError(f"{path}: the split files have no video for train or test")
    around = (path, files[0].parent, files[0].parent.parent) if path.is_dir() else (path.parent, path.parent.parent)
    candidates = [base / name for base in around for name in ("hmdb51_org", "hmdb51", "videos", "")]
    relative = [row.path for row in rows]
    try:
        base = find_base(candidates, relative, what="HMDB51", options=options)
    except AnnotationError:  # all videos in one folder
        relative = [Path(file.name) for file in relative]
        base = find_base(candidates, relative, what="HMDB51", options=options)
    rows = [
        ListRow(path=base / file, label=row.label, split=row.split, place=row.place)
        for row, file in zip(rows, relative, strict=True)
    ]
    notes = missing_note([row.path for row in rows])
    return Listing(
        path=path,
        kind="hmdb51",
        form=f"HMDB51, {len(files)} split files, videos in {base}",
        rows=tuple(rows),
        notes=(*((f"{unused} videos that are unused in this fold",) if unused else ()), *notes),
        class_names=tuple(name.replace("_", " ") for name in names),
    )


def _split_files(path: Path, options: ListOptions) -> list[Path]:
    if path.is_file():
        check_file_name(path, SPLIT, options, usual="HMDB51's split files are named CLASS_test_split1.txt and so on")
        return [path]
    fold = chosen_fold(options, ("1", "2", "3"), what="HMDB51 has three folds")
    for folder in folders_with_lists(path, "testTrainMulti_7030_splits"):
        if found := sorted(folder.glob(f"*_test_split{fold}.txt")):
            return found
    raise AnnotationError(
        f"{path}: no split file CLASS_test_split{fold}.txt is found, nor in testTrainMulti_7030_splits"
    )
