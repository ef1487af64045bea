"""Read lists without a header: `path num_frames label` (ActionCLIP, frame folders) and `path label` (X-CLIP, files).

Fields are separated by spaces or tabs, a comma, or a semicolon. A path may contain separators, because the numbers are
read from the end of the line.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from serve.independence import CONVENTIONS
from serve.lists.errors import AnnotationError
from serve.lists.text import TextFile, read_text
from training.data.lists.paths import resolve_path
from training.data.lists.rows import Listing, ListOptions, ListRow

Parsed = TypeVar("Parsed")

SEPARATOR = r"(?:\s*[,;]\s*|\s+)"
FRAME_FOLDER_LINE = re.compile(rf"(?P<path>\S.*?){SEPARATOR}(?P<count>[0-9]+){SEPARATOR}(?P<label>[0-9]+)")
VIDEO_FILE_LINE = re.compile(rf"(?P<path>\S.*?){SEPARATOR}(?P<label>[0-9]+)")
HMDB_SPLIT_NAME = re.compile(r".+_test_split[123]\.txt")
UCF_LIST_NAME = re.compile(r"(?:train|test)list0[123]\.txt")


@dataclass(frozen=True, kw_only=True)
class FrameFolderLine:
    """One line of an ActionCLIP list: a video as a folder of frame images."""

    path: str
    num_frames: int
    label: int


@dataclass(frozen=True, kw_only=True)
class VideoFileLine:
    """One line of an X-CLIP list: a video as a file."""

    path: str
    label: int


def parse_frame_folder_line(line: str) -> FrameFolderLine:
    """Parse one line of an ActionCLIP list.

    Raises:
        AnnotationError: the line is not `path num_frames label`.
    """
    match = FRAME_FOLDER_LINE.fullmatch(line.strip())
    if match is None:
        raise AnnotationError(f"expected `path num_frames label`, got {line.strip()!r}")
    return FrameFolderLine(path=_unquote(match["path"]), num_frames=int(match["count"]), label=int(match["label"]))


def parse_video_file_line(line: str) -> VideoFileLine:
    """Parse one line of an X-CLIP list.

    Raises:
        AnnotationError: the line is not `path label`.
    """
    match = VIDEO_FILE_LINE.fullmatch(line.strip())
    if match is None:
        raise AnnotationError(f"expected `path label`, got {line.strip()!r}")
    return VideoFileLine(path=_unquote(match["path"]), label=int(match["label"]))


def read_frame_list(path: Path, options: ListOptions) -> Listing:
    """Read an ActionCLIP list.

    Raises:
        AnnotationError: a line is invalid; the message contains the file and the line.
    """
    file = read_text(path, raw_paths=True)
    rows = []
    for number, line in file.lines():
        location = file.position(number)
        item = _parse_line(parse_frame_folder_line, line, location)
        folder = resolve_path(item.path, path, options.root, location)
        rows.append(ListRow(path=folder, label=item.label, num_frames=item.num_frames, location=location))
    return _make_listing(path, "frames", file, rows, "list of frame folders, `path num_frames label`")


def read_video_list(path: Path, options: ListOptions) -> Listing:
    """Read an X-CLIP list.

    Raises:
        AnnotationError: a line is invalid, or the list is a split file of HMDB51.
    """
    file = read_text(path, raw_paths=True)
    rows = []
    for number, line in file.lines():
        location = file.position(number)
        item = _parse_line(parse_video_file_line, line, location)
        video = resolve_path(item.path, path, options.root, location)
        rows.append(ListRow(path=video, label=item.label, location=location))
    reject_hmdb_split(path, rows)
    return _make_listing(path, "videos", file, rows, "list of video files, `path label`")


def detect_text_kind(path: Path, options: ListOptions) -> str:
    """Return `frames` or `videos`, detected from the first line.

    Raises:
        AnnotationError: the first line matches neither format, or the list belongs to a data set with its own reader.
    """
    if UCF_LIST_NAME.fullmatch(path.name):
        raise AnnotationError(f"{path.name} has the name of a UCF101 list; use --source ucf101")
    if HMDB_SPLIT_NAME.fullmatch(path.name):
        raise AnnotationError(f"{path.name} has the name of an HMDB51 split file; use --source hmdb51")
    file = read_text(path, raw_paths=True)
    number, first = next(iter(file.lines()), (1, ""))
    if not first:
        raise AnnotationError(f"{file.name}: the file is empty")
    if not FRAME_FOLDER_LINE.fullmatch(first.strip()):
        _parse_line(parse_video_file_line, first, file.position(number))
        return "videos"
    # A line `path label` whose path ends with a number also matches `path num_frames label`: look for the file.
    video = resolve_path(parse_video_file_line(first).path, path, options.root, file.position(number))
    return "videos" if video.is_file() else "frames"


def reject_hmdb_split(path: Path, rows: Sequence[ListRow]) -> None:
    """Raise if the list is a split file of HMDB51, in which 0, 1 and 2 mean unused, train and test.

    Raises:
        AnnotationError: the list is a split file.
    """
    if not rows or not {row.label for row in rows} <= {0, 1, 2}:
        return
    has_split_name = HMDB_SPLIT_NAME.fullmatch(path.name) is not None
    if has_split_name or all(CONVENTIONS["hmdb51"].fullmatch(row.path.stem) for row in rows):
        raise AnnotationError(
            f"{path.name} is a split file of HMDB51 (0 unused, 1 train, 2 test), not a list with labels; "
            "read its folder with --source hmdb51"
        )


def _parse_line(parse: Callable[[str], Parsed], line: str, location: str) -> Parsed:
    try:
        return parse(line)
    except AnnotationError as error:
        raise AnnotationError(
            f"{location}: {error}; to use class names, write a CSV with the header path,label"
        ) from error


def _make_listing(path: Path, kind: str, file: TextFile, rows: Sequence[ListRow], description: str) -> Listing:
    return Listing(path=path, kind=kind, description=f"{description}, {file.encoding}", rows=tuple(rows))


def _unquote(path: str) -> str:
    return path[1:-1] if len(path) > 2 and path[0] == path[-1] == '"' else path
