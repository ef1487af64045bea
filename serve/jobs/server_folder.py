"""Inputs in a folder on the server, below the root folder that the operator allows."""

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


def resolve_folder(root: Path | None, folder: FolderRequest) -> Path:
    """Return the absolute path of a folder below the root, with symbolic links resolved.

    Raises:
        NotEnabled: no root folder is configured.
        InvalidOption: the path is not a folder below the root.
    """
    if root is None:
        raise NotEnabled("this server does not read folders; the operator can allow one with SERVE_JOBS__FOLDER_ROOT")
    base = root.expanduser().resolve()
    try:
        path = (base / folder.path).resolve()
        is_allowed = path.is_relative_to(base) and path.is_dir()
    except (OSError, ValueError, RuntimeError):  # e.g. a cycle of links, a name that is too long, a NUL character
        is_allowed = False
    if not is_allowed or PurePosixPath(folder.path).is_absolute():
        raise InvalidOption(
            f"`folder.path` {folder.path[:200]!r} is not a folder below the folder that this server allows"
        )
    return path


def list_inputs(root: Path | None, folder: FolderRequest, *, max_inputs: int) -> list[NewInput]:
    """Return the matching files of a folder and its subfolders, sorted by path.

    Without a pattern, all files with a video suffix match. Hidden files and links out of the root are skipped.

    Raises:
        NotEnabled: no root folder is configured.
        InvalidOption: the path is not a folder below the root, or no file or more than `max_inputs` files match.
    """
    start = resolve_folder(root, folder)
    assert root is not None, "checked by resolve_folder"
    base = root.expanduser().resolve()
    inputs = []
    for path in iter_files(start, folder.pattern):
        if path.resolve().is_relative_to(base):
            name = path.relative_to(start).as_posix()
            if (fault := describe_text_fault(name)) is not None:
                raise InvalidOption(f"the folder contains a file whose name has {fault}; rename it")
            inputs.append(NewInput(name=name, source="folder", location=path.relative_to(base).as_posix()))
        if len(inputs) > max_inputs:
            raise InvalidOption(
                f"the folder contains more matching files than the limit of {max_inputs}", limit=max_inputs
            )
    if not inputs:
        condition = "with a video suffix" if folder.pattern is None else f"that matches {folder.pattern[:200]!r}"
        raise InvalidOption(f"the folder contains no file {condition}")
    return sorted(inputs, key=lambda item: item.location)


def iter_files(start: Path, pattern: str | None) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders that match a pattern or, without one, have a video suffix."""
    for folder, subfolders, names in os.walk(start):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file() and _matches(path, pattern):
                yield path


def resolve_input(root: Path | None, location: str) -> Path:
    """Return the absolute path of an input that `list_inputs` returned.

    Raises:
        NotEnabled: no root folder is configured any more.
        InvalidOption: the path is no longer a file below the root.
    """
    if root is None:
        raise NotEnabled("this server does not read folders; the operator can allow one with SERVE_JOBS__FOLDER_ROOT")
    base = root.expanduser().resolve()
    path = (base / location).resolve()
    if not path.is_relative_to(base) or not path.is_file():
        raise InvalidOption("the file no longer exists in the folder that this server allows")
    return path


def _matches(path: Path, pattern: str | None) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES if pattern is None else fnmatchcase(path.name, pattern)
