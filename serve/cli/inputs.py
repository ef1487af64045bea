"""Video arguments of commands: files, folders, patterns, and lists of paths on standard input."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from serve.errors import InvalidOption
from serve.jobs.local_files import expand_path

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
        for name in read_list() if text == STANDARD_INPUT else [text]:
            files += expand_path(name)
    if not files:
        raise InvalidOption("standard input lists no files")
    return files


def read_list() -> Iterator[str]:
    """Yield the lines of standard input; names are separated by NUL if it contains one, as `find -print0` writes it."""
    content = os.fsdecode(sys.stdin.buffer.read())
    names = content.split("\0") if "\0" in content else content.splitlines()
    return filter(None, names)
