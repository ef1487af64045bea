"""Paths in lists: relative ones start at the list's folder or a root; those that Windows wrote are understood."""

import os
from pathlib import Path, PureWindowsPath

from serve.lists.errors import AnnotationError
from serve.lists.text import refuse_undecoded


def located(name: str, listing: Path, root: Path | None, place: str) -> Path:
    r"""Return where a video of a list lies.

    A backslash separates folders, unless a file is called so. Bytes that are not UTF-8 stay only in the name of a file
    that exists.

    Raises:
        AnnotationError: it begins with a drive letter, or holds bytes that are not UTF-8 and names no file.
    """
    base = root or listing.parent
    path = base / name
    if "\\" in name and os.name != "nt" and not path.exists():
        windows = PureWindowsPath(name)
        if windows.drive:
            raise AnnotationError(
                f"{place}: {name!r} is a path of Windows with a drive; write it relative to the list, or to --root"
            )
        path = base / windows.as_posix()
    if not name.isascii() and not path.exists():
        refuse_undecoded(name, place)
    return path
