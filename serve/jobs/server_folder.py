"""Inputs in a folder of the server, below the one that the operator allows."""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from serve.errors import InvalidOption, NotEnabled
from serve.jobs.records import FolderRequest, NewInput
from serve.unicode_text import describe_text_fault

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".dv", ".flv", ".gif", ".ivf", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on


def allowed_folder(root: Path | None, folder: FolderRequest) -> Path:
    """Return the path of a folder below the root, links followed.

    Raises:
        NotEnabled: the server has no root.
        InvalidOption: it is not a folder below the root.
    """
    if root is None:
        raise NotEnabled("this server reads no folders; its operator allows one by SERVE_JOBS__FOLDER_ROOT")
    base = root.expanduser().resolve()
    try:
        found = (base / folder.path).resolve()
        is_allowed = found.is_relative_to(base) and found.is_dir()
    except (OSError, ValueError, RuntimeError):  # a loop of links, a name that is too long, a NUL
        is_allowed = False
    if not is_allowed or PurePosixPath(folder.path).is_absolute():
        raise InvalidOption(
            f"`folder.path` {folder.path[:200]!r} is not a folder below the one that this server allows"
        )
    return found


def list_inputs(root: Path | None, folder: FolderRequest, *, max_inputs: int) -> list[NewInput]:
    """Return the files of a folder and its subfolders that match, in the order of their names.

    Without a pattern, files count whose suffix is that of a video. Hidden files, and links out of the root, do not.

    Raises:
        NotEnabled, InvalidOption: see `allowed_folder`; or no file, or too many, match.
    """
    start = allowed_folder(root, folder)
    assert root is not None, "checked by allowed_folder"
    base = root.expanduser().resolve()
    found = []
    for path in files_of(start, folder.pattern):
        if path.resolve().is_relative_to(base):
            name = path.relative_to(start).as_posix()
            if (fault := describe_text_fault(name)) is not None:
                raise InvalidOption(f"the folder holds a file whose name has {fault}; rename it")
            found.append(NewInput(name=name, source="folder", place=path.relative_to(base).as_posix()))
        if len(found) > max_inputs:
            raise InvalidOption(f"the folder holds more than {max_inputs} matching files, the limit", limit=max_inputs)
    if not found:
        wanted = "with the suffix of a video" if folder.pattern is None else f"that matches {folder.pattern[:200]!r}"
        raise InvalidOption(f"the folder holds no file {wanted}")
    return sorted(found, key=lambda item: item.place)


def files_of(start: Path, pattern: str | None) -> Iterator[Path]:
    """Yield files of a folder and its subfolders that match a pattern; without one, those with a suffix of videos."""
    for place, folders, names in os.walk(start):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if not name.startswith(".") and path.is_file() and _matches(path, pattern):
                yield path


def folder_input(root: Path | None, place: str) -> Path:
    """Return the path of an input found before.

    Raises:
        NotEnabled: the server has no root any more.
        InvalidOption: it is no longer a file below the root.
    """
    if root is None:
        raise NotEnabled("this server reads no folders; its operator allows one by SERVE_JOBS__FOLDER_ROOT")
    base = root.expanduser().resolve()
    path = (base / place).resolve()
    if not path.is_relative_to(base) or not path.is_file():
        raise InvalidOption("the file is no longer in the folder of the server")
    return path


def _matches(path: Path, pattern: str | None) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES if pattern is None else fnmatchcase(path.name, pattern)
