"""Reader of NTU RGB+D 60 and 120, whose file names hold all annotations.

    S001C002P003R002A013_rgb.avi     setup 1, camera 2, performer 3, repetition 2, action 13 (from 1)

The published protocols are folds: xsub (performers), xview (cameras; only 60), xset (setups; only 120).
"""

import re
from pathlib import Path

from serve.independence import source_of_name
from serve.lists.errors import AnnotationError
from training.data.lists.folders import read_tree
from training.data.lists.published.places import chosen_fold
from training.data.lists.rows import Listing, ListOptions, ListRow

NAME = re.compile(r"S(?P<setup>\d{3})C(?P<camera>\d{3})P(?P<performer>\d{3})R\d{3}A(?P<action>\d{3})(?P<kind>_.+)?")
# Performers of training, arXiv:1604.02808 (60 actions) and arXiv:1905.04757 (120 actions)
TRAIN_60 = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
# fmt: off
TRAIN_120 = TRAIN_60 | {
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95,
    97, 98, 100, 103,
}
# fmt: on
TRAIN_CAMERAS = frozenset({2, 3})


def read_ntu(path: Path, options: ListOptions) -> Listing:
    """Read the videos of a folder by their names; class names are from a class list.

    Raises:
        AnnotationError: a file name is invalid, or the data set does not have the protocol.
    """
    if not path.is_dir():
        raise AnnotationError(f"{path}: the folder of NTU's videos is needed")
    fold = chosen_fold(options, ("xsub", "xview", "xset"), what="NTU has several protocols")
    tree = read_tree(path)
    matches = [(file, NAME.fullmatch(file.stem)) for file in tree.videos]
    strange = [file for file, match in matches if match is None]
    if strange or not matches:
        found = f"{len(strange)} are not, the first is {strange[0]}" if strange else "there is no video"
        raise AnnotationError(f"{path}: NTU's videos are named S001C001P001R001A001_rgb.avi and so on; {found}")
    videos = [(file, match) for file, match in matches if match is not None and (match["kind"] or "_rgb") == "_rgb"]
    if not videos:
        raise AnnotationError(f"{path}: there is no colour video (_rgb)")
    size = 120 if any(int(match["action"]) > 60 for _, match in videos) else 60
    if (fold, size) in (("xview", 120), ("xset", 60)):
        raise AnnotationError(f"{path}: {fold} is not a protocol of NTU RGB+D {size}")
    rows = tuple(
        ListRow(
            path=path / file,
            label=int(match["action"]) - 1,
            split="train" if _is_train(match, fold, size) else "test",
            group=source_of_name(file.name) or "",
            place=str(file),
        )
        for file, match in videos
    )
    left = len(matches) - len(videos)
    return Listing(
        path=path,
        kind="ntu",
        form=f"NTU RGB+D {size}, protocol {fold}",
        rows=rows,
        notes=(f"{left} depth or infrared videos are ignored",) if left else (),
    )


def _is_train(match: re.Match[str], fold: str, size: int) -> bool:
    if fold == "xview":
        return int(match["camera"]) in TRAIN_CAMERAS
    if fold == "xset":
        return int(match["setup"]) % 2 == 0
    return int(match["performer"]) in (TRAIN_60 if size == 60 else TRAIN_120)
