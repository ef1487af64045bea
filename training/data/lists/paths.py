"""Resolve the paths in lists, relative to the folder of the list or a root; Windows separators are supported."""

import os
from pathlib import Path, PureWindowsPath

from serve.lists.errors import AnnotationError
from serve.lists.text import check_decoded


def resolve_path(name: str, listing: Path, root: Path | None, location: str) -> Path:
    r"""Return the path of a video in a list; `location` is the file and line for messages.

    A backslash separates folders, unless a file with a backslash in its name exists. A name that is not UTF-8 is
    allowed only if the file exists.

    Raises:
        AnnotationError: the path begins with a drive letter, or is not UTF-8 and does not exist.
    """
    base = root or listing.parent
    path = base / name
    if "\\" in name and os.name != "nt" and not path.exists():
        windows = PureWindowsPath(name)
        if windows.drive:
            raise AnnotationError(
                f"{location}: {name!r} is a Windows path with a drive; make it relative to the list or to --root"
            )
        path = base / windows.as_posix()
    if not name.isascii() and not path.exists():
        check_decoded(name, location)
    return path
