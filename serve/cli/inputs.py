"""Video arguments of commands: files, and folders that are searched for videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from serve.errors import InvalidOption
from serve.jobs.server_folder import iter_files

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(help="Video files, or folders that are searched for files with a video suffix.", exists=True),
]


def expand_folders(paths: Sequence[Path]) -> list[Path]:
    """Replace each folder with the videos in it and its subfolders, sorted by name.

    Raises:
        InvalidOption: a folder contains no video.
    """
    files: list[Path] = []
    for path in paths:
        videos = sorted(iter_files(path, None)) if path.is_dir() else [path]
        if not videos:
            raise InvalidOption(f"the folder {path} contains no file with a video suffix")
        files += videos
    return files
