"""Read NTU RGB+D 60 and 120, whose file names contain all annotations.

    S001C002P003R002A013_rgb.avi     setup 1, camera 2, performer 3, repetition 2, action 13 (from 1)

The published protocols are used as folds: xsub (split by performer), xview (by camera; only NTU 60), xset (by setup;
only NTU 120).
"""

import re
from pathlib import Path

from serve.independence import source_of_name
from serve.lists.errors import AnnotationError
from training.data.lists.folders import read_tree
from training.data.lists.published.files import select_fold
from training.data.lists.rows import Listing, ListOptions, ListRow

FILE_STEM = re.compile(
    r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<performer>\d{3})R\d{3}A(?P<action>\d{3})(?P<kind>_.+)?"
)
# performers of the training split: arXiv:1604.02808 (60 actions) and arXiv:1905.04757 (120 actions)
TRAIN_PERFORMERS_60 = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
# fmt: off
TRAIN_PERFORMERS_120 = TRAIN_PERFORMERS_60 | {
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
}
# fmt: on
TRAIN_CAMERAS = frozenset({2, 3})


def read_ntu(path: Path, options: ListOptions) -> Listing:
    """Read the labels of the videos in a folder from their names; class names must be given in a class list.

    Raises:
        AnnotationError: a file name is invalid, or the data set does not have the requested protocol.
    """
    if not path.is_dir():
        raise AnnotationError(f"{path} is not a folder; give the folder of the NTU RGB+D videos")
    fold = select_fold(options, ("xsub", "xview", "xset"), reason="NTU RGB+D has several protocols")
    tree = read_tree(path)
    matches = [(file, FILE_STEM.fullmatch(file.stem)) for file in tree.videos]
    invalid = [file for file, match in matches if match is None]
    if not matches:
        raise AnnotationError(f"{path}: the folder contains no video")
    if invalid:
        raise AnnotationError(
            f"{path}: {len(invalid)} file names are invalid, the first is {invalid[0]}; NTU RGB+D videos must be named "
            "like S001C001P001R001A001_rgb.avi"
        )
    videos = [(file, match) for file, match in matches if match is not None and (match["kind"] or "_rgb") == "_rgb"]
    if not videos:
        raise AnnotationError(f"{path}: the folder contains no colour video (_rgb)")
    size = 120 if any(int(match["action"]) > 60 for _, match in videos) else 60
    if (fold, size) in (("xview", 120), ("xset", 60)):
        raise AnnotationError(f"{path}: NTU RGB+D {size} has no protocol {fold}")
    rows = tuple(
        ListRow(
            path=path / file,
            label=int(match["action"]) - 1,
            split="train" if _is_train(match, fold, size) else "test",
            group=source_of_name(file.name) or "",
            location=str(file),
        )
        for file, match in videos
    )
    num_ignored = len(matches) - len(videos)
    return Listing(
        path=path,
        kind="ntu",
        description=f"NTU RGB+D {size}, protocol {fold}",
        rows=rows,
        notes=(f"{num_ignored} depth or infrared videos are ignored",) if num_ignored else (),
    )


def _is_train(match: re.Match[str], fold: str, size: int) -> bool:
    if fold == "xview":
        return int(match["camera"]) in TRAIN_CAMERAS
    if fold == "xset":
        return int(match["setup"]) % 2 == 0
    return int(match["performer"]) in (TRAIN_PERFORMERS_60 if size == 60 else TRAIN_PERFORMERS_120)
