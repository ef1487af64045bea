"""Read HMDB51 in its published layout.

testTrainMulti_7030_splits/brush_hair_test_split1.txt     lines `NAME.avi 1`; 0: unused, 1: train, 2: test
hmdb51_org/brush_hair/NAME.avi
"""

import re
from pathlib import Path

from serve.lists.errors import AnnotationError
from serve.lists.text import read_text
from training.data.lists.published.files import (
    check_file_name,
    find_video_folder,
    list_folder_candidates,
    missing_notes,
    select_fold,
)
from training.data.lists.rows import Listing, ListOptions, ListRow

SPLIT_FILE_NAME = re.compile(r"(?P<name>.+)_test_split(?P<fold>[123])\.txt")
LINE = re.compile(r"(?P<file>.+\.\w+)\s+(?P<number>[0-9]+)")
SPLIT_OF_NUMBER = {"1": "train", "2": "test"}


def read_hmdb51(path: Path, options: ListOptions) -> Listing:
    """Read all split files of a fold, or one of them, which contains a single class.

    Raises:
        AnnotationError: files are missing, or a line is invalid; the message contains the file and the line.
    """
    files = _find_split_files(path, options)
    names = [match["name"] for file in files if (match := SPLIT_FILE_NAME.fullmatch(file.name))]
    rows, num_unused = [], 0
    for label, (name, file) in enumerate(zip(names, files, strict=True)):
        text = read_text(file)
        for number, line in text.lines():
            match = LINE.fullmatch(line.strip())
            if match is None or match["number"] not in ("0", "1", "2"):
                raise AnnotationError(
                    f"{text.position(number)}: expected `NAME.avi` and 0, 1 or 2, got {line.strip()!r}"
                )
            if match["number"] == "0":
                num_unused += 1
                continue
            split = SPLIT_OF_NUMBER[match["number"]]
            rows.append(
                ListRow(path=Path(name, match["file"]), label=label, split=split, location=text.position(number))
            )
    if not rows:
        raise AnnotationError(f"{path}: the split files contain no video for train or test")
    parents = (path, files[0].parent, files[0].parent.parent) if path.is_dir() else (path.parent, path.parent.parent)
    candidates = [parent / name for parent in parents for name in ("hmdb51_org", "hmdb51", "videos", "")]
    relative_paths = [row.path for row in rows]
    try:
        base = find_video_folder(candidates, relative_paths, dataset="HMDB51", options=options)
    except AnnotationError:  # the videos of all classes may be in one folder
        relative_paths = [Path(video.name) for video in relative_paths]
        base = find_video_folder(candidates, relative_paths, dataset="HMDB51", options=options)
    rows = [
        ListRow(path=base / video, label=row.label, split=row.split, location=row.location)
        for row, video in zip(rows, relative_paths, strict=True)
    ]
    notes = missing_notes([row.path for row in rows])
    return Listing(
        path=path,
        kind="hmdb51",
        description=f"HMDB51, {len(files)} split files, videos in {base}",
        rows=tuple(rows),
        notes=(*((f"{num_unused} videos are unused in this fold",) if num_unused else ()), *notes),
        class_names=tuple(name.replace("_", " ") for name in names),
    )


def _find_split_files(path: Path, options: ListOptions) -> list[Path]:
    if path.is_file():
        expected = "a split file of HMDB51 must be named like CLASS_test_split1.txt"
        check_file_name(path, SPLIT_FILE_NAME, options, expected=expected)
        return [path]
    fold = select_fold(options, ("1", "2", "3"), reason="HMDB51 has three folds")
    for folder in list_folder_candidates(path, "testTrainMulti_7030_splits"):
        if files := sorted(folder.glob(f"*_test_split{fold}.txt")):
            return files
    raise AnnotationError(
        f"{path}: no split file CLASS_test_split{fold}.txt was found in this folder or its subfolders, "
        "usually testTrainMulti_7030_splits"
    )
