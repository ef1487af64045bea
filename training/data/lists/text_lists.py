"""Lists without a header: `path num_frames label` (ActionCLIP, a folder of frames) and `path label` (X-CLIP, a file).

Fields are separated by tabs, by one or more spaces, or by a comma or semicolon. A path may contain spaces, since
numbers are read from the right.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from serve.independence import CONVENTIONS
from serve.lists.errors import AnnotationError
from serve.lists.text import TextFile, read_text
from training.data.lists.paths import located
from training.data.lists.rows import Listing, ListOptions, ListRow

Parsed = TypeVar("Parsed")

SEPARATOR = r"(?:\s*[,;]\s*|\s+)"
FRAMES = re.compile(rf"(?P<path>\S.*?){SEPARATOR}(?P<count>[0-9]+){SEPARATOR}(?P<label>[0-9]+)")
VIDEO = re.compile(rf"(?P<path>\S.*?){SEPARATOR}(?P<label>[0-9]+)")
HMDB_SPLIT = re.compile(r".+_test_split[123]\.txt")
UCF_LIST = re.compile(r"(?:train|test)list0[123]\.txt")


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
    """Parse one line of an ActionCLIP list.

    Raises:
        AnnotationError: it is not `path num_frames label`.
    """
    match = FRAMES.fullmatch(line.strip())
    if match is None:
        raise AnnotationError(f"expected `path num_frames label`, found {line.strip()!r}")
    return FrameFolder(path=_unquoted(match["path"]), num_frames=int(match["count"]), label=int(match["label"]))


def parse_video_file(line: str) -> VideoFile:
    """Parse one line of an X-CLIP list.

    Raises:
        AnnotationError: it is not `path label`.
    """
    match = VIDEO.fullmatch(line.strip())
    if match is None:
        raise AnnotationError(f"expected `path label`, found {line.strip()!r}")
    return VideoFile(path=_unquoted(match["path"]), label=int(match["label"]))


def read_frame_list(path: Path, options: ListOptions) -> Listing:
    """Read an ActionCLIP list.

    Raises:
        AnnotationError: a line is invalid; names the file and the line.
    """
    file = read_text(path, raw_paths=True)
    rows = []
    for number, line in file.lines():
        place = file.place(number)
        item = _parsed(parse_frame_folder, line, place)
        where = located(item.path, path, options.root, place)
        rows.append(ListRow(path=where, label=item.label, num_frames=item.num_frames, place=place))
    return _listing(path, "frames", file, rows, "list of frame folders, `path num_frames label`")


def read_video_list(path: Path, options: ListOptions) -> Listing:
    """Read an X-CLIP list.

    Raises:
        AnnotationError: a line is invalid, or the list is a split file of HMDB51.
    """
    file = read_text(path, raw_paths=True)
    rows = []
    for number, line in file.lines():
        place = file.place(number)
        item = _parsed(parse_video_file, line, place)
        rows.append(ListRow(path=located(item.path, path, options.root, place), label=item.label, place=place))
    refuse_hmdb_split(path, rows)
    return _listing(path, "videos", file, rows, "list of video files, `path label`")


def kind_of_text(path: Path, options: ListOptions) -> str:
    """Return `frames` or `videos`, by the first line; a path may end in a number.

    Raises:
        AnnotationError: it is neither, or is the published list of a data set with its own reader.
    """
    if UCF_LIST.fullmatch(path.name):
        raise AnnotationError(f"{path.name} has the name of a UCF101 list: read it with --source ucf101")
    if HMDB_SPLIT.fullmatch(path.name):
        raise AnnotationError(f"{path.name} has the name of an HMDB51 split file: read it with --source hmdb51")
    file = read_text(path, raw_paths=True)
    number, first = next(iter(file.lines()), (1, ""))
    if not first:
        raise AnnotationError(f"{file.name}: the file is empty")
    if not FRAMES.fullmatch(first.strip()):
        _parsed(parse_video_file, first, file.place(number))
        return "videos"
    as_video = located(parse_video_file(first).path, path, options.root, file.place(number))
    return "videos" if as_video.is_file() else "frames"


def refuse_hmdb_split(path: Path, rows: Sequence[ListRow]) -> None:
    """Refuse a split file of HMDB51, whose numbers 0, 1 and 2 mean unused, train and test.

    Raises:
        AnnotationError: the rows are those of a split file.
    """
    if not rows or not {row.label for row in rows} <= {0, 1, 2}:
        return
    is_named = HMDB_SPLIT.fullmatch(path.name) is not None
    if is_named or all(CONVENTIONS["hmdb51"].fullmatch(row.path.stem) for row in rows):
        raise AnnotationError(
            f"{path.name} is a split file of HMDB51 (0 unused, 1 train, 2 test), not a list of classes: "
            "read its folder with --source hmdb51"
        )


def _parsed(parse: Callable[[str], Parsed], line: str, place: str) -> Parsed:
    try:
        return parse(line)
    except AnnotationError as error:
        raise AnnotationError(f"{place}: {error}; class names need a CSV with the header path,label") from error


def _listing(path: Path, kind: str, file: TextFile, rows: Sequence[ListRow], form: str) -> Listing:
    return Listing(path=path, kind=kind, form=f"{form}, {file.encoding}", rows=tuple(rows))


def _unquoted(path: str) -> str:
    return path[1:-1] if len(path) > 2 and path[0] == path[-1] == '"' else path
