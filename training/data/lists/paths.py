"""Paths in lists: relative to the list's folder or a root; Windows separators are supported."""

import os
from pathlib import Path, PureWindowsPath

from serve.lists.errors import AnnotationError
from serve.lists.text import refuse_undecoded


def located(name: str, listing: Path, root: Path | None, place: str) -> Path:
    r"""Return the path of a video of a list.

    A backslash separates folders, unless a file has it in its name. Bytes that are not UTF-8 are allowed only in names
    of existing files.

    Raises:
        AnnotationError: it begins with a drive letter, or is not UTF-8 and does not exist.
    """
    base = root or listing.parent
    path = base / name
    if "\\" in name and os.name != "nt" and not path.exists():
        windows = PureWindowsPath(name)
        if windows.drive:
            raise AnnotationError(
                f"{place}: {name!r} is a Windows path with a drive; make it relative to the list or to --root"
            )
        path = base / windows.as_posix()
    if not name.isascii() and not path.exists():
        refuse_undecoded(name, place)
    return path
