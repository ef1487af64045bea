"""Video arguments of commands: files, folders, patterns, and lists of paths on standard input."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from serve.errors import InvalidOption
from serve.jobs.server_folder import iter_files

STANDARD_INPUT = "-"
_ARGUMENT = typer.Argument(
    metavar="VIDEO...",
    help="Video files, folders (every file below with the suffix of a video), patterns such as 'clips/**/*.mp4', "
    "or - to read such a list from standard input, one per line.",
)
Inputs = Annotated[list[str], _ARGUMENT]
OptionalInputs = Annotated[list[str] | None, _ARGUMENT]


def expand_inputs(inputs: Sequence[str]) -> list[Path]:
    """Return the files that the arguments stand for; the files of a folder or a pattern are sorted by name.

    Raises:
        InvalidOption: an argument stands for no file.
    """
    files: list[Path] = []
    for text in inputs:
        for name in _read_list() if text == STANDARD_INPUT else [text]:
            files += _expand(name)
    if not files:
        raise InvalidOption("standard input lists no files")
    return files


def _read_list() -> Iterator[str]:
    """Yield the lines of standard input; names are separated by NUL if it contains one, as `find -print0` writes it."""
    content = os.fsdecode(sys.stdin.buffer.read())
    names = content.split("\0") if "\0" in content else content.splitlines()
    return filter(None, names)


def _expand(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir():
        files = sorted(iter_files(path, None))
        if not files:
            raise InvalidOption(f"the folder {text} contains no file with a video suffix")
        return files
    if path.exists():
        return [path]
    if not glob.has_magic(text):
        raise InvalidOption(f"{text}: there is no such file or folder")
    matches = sorted(Path(match) for match in glob.iglob(text, recursive=True))  # noqa: PTH207  # also absolute patterns
    files = [match for match in matches if match.is_file()]
    if not files:
        raise InvalidOption(f"the pattern {text} matches no file")
    return files
