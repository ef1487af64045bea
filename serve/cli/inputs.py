"""Video files of commands: files, and folders with all videos below them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from serve.errors import InvalidOption
from serve.jobs.server_folder import files_of

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(help="Video files, or folders: every file below with the suffix of a video.", exists=True),
]


def expanded(paths: Sequence[Path]) -> list[Path]:
    """Return files as they are, and the videos below each folder in the order of their names.

    Raises:
        InvalidOption: a folder holds no video.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(files_of(path, None)) if path.is_dir() else [path]
        if not inside:
            raise InvalidOption(f"the folder {path} holds no file with the suffix of a video")
        found += inside
    return found
