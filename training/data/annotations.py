"""Lists of labelled videos as both systems write them, and class names.

ActionCLIP: `path num_frames label`, a folder of extracted frames. X-CLIP: `path label`, a video file. Both originals
split on every space; here a path may hold spaces, since the numbers are taken from the right.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

FRAME_TEMPLATE = "img_{:05d}.jpg"
ZERO_BASED_TEMPLATE = "frame{:d}.jpg"  # the one template whose files are taken to start at 0


class AnnotationError(ValueError):
    """A line that cannot be read; the message quotes it."""


@dataclass(frozen=True, kw_only=True)
class FrameFolder:
    """One video as a folder of pictures."""

    path: str
    num_frames: int
    label: int


@dataclass(frozen=True, kw_only=True)
class VideoFile:
    """One video as a file."""

    path: str
    label: int


def parse_frame_folder(line: str) -> FrameFolder:
    """One line of an ActionCLIP list; spaces and line ends around it do not count.

    Raises:
        AnnotationError: it is not `path num_frames label`.
    """
    parts = line.strip().rsplit(" ", 2)
    if len(parts) != 3 or not parts[1].isdecimal() or not parts[2].isdecimal():
        raise AnnotationError(f"expected `path num_frames label`, found {line.strip()!r}")
    return FrameFolder(path=parts[0], num_frames=int(parts[1]), label=int(parts[2]))


def parse_video_file(line: str) -> VideoFile:
    """One line of an X-CLIP list.

    Raises:
        AnnotationError: it is not `path label`.
    """
    parts = line.strip().rsplit(maxsplit=1)
    if len(parts) != 2 or not parts[1].isdecimal():
        raise AnnotationError(f"expected `path label`, found {line.strip()!r}")
    return VideoFile(path=parts[0], label=int(parts[1]))


def first_file_number(template: str = FRAME_TEMPLATE, bias: int | None = None) -> int:
    """Number of the file that holds frame 0: `bias` where it is given, else 1, or 0 under `frame{:d}.jpg`."""
    if bias is not None:
        return bias
    return 0 if template == ZERO_BASED_TEMPLATE else 1


def read_class_names(path: Path) -> list[str]:
    """Names of a CSV with the header `id,name`, in the order of the file; the id is not read.

    A class called "none" or "nan" stays that word (pandas, which the originals use, makes a missing value of it).

    Raises:
        AnnotationError: the file has no column `name`.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        if "name" not in (rows.fieldnames or ()):
            raise AnnotationError(f"{path}: expected the columns id,name, found {rows.fieldnames}")
        return [row["name"].strip() for row in rows]
