"""Inputs of a batch: files, folders, patterns, lists, tables of paths, and URLs of object stores.

An argument that stands for nothing is an error. A path of a list or table that does not exist is not: it becomes an
input, and fails alone.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from serve.batch.remote import expand_url, is_url
from serve.errors import InvalidOption
from serve.extras import require_extra
from serve.jobs.local_files import expand_path

LIST_SUFFIXES = (".txt", ".lst")
TABLE_SUFFIX = ".parquet"
DEFAULT_COLUMN = "path"


def list_inputs(arguments: Sequence[str], *, column: str | None, standard_input: Iterable[str] = ()) -> list[str]:
    """Return the names of all inputs without duplicates: absolute paths and URLs.

    `column` is the column of tables that contains the paths; `-` stands for `standard_input`.

    Raises:
        InvalidOption: an argument stands for no input, or a list or table cannot be read.
        MissingExtra: a URL or a table needs the extra `batch`.
    """
    has_table = any(_is_list(argument, TABLE_SUFFIX) for argument in arguments)
    if column is not None and not has_table:
        raise InvalidOption("--column applies to tables of paths (*.parquet), and there is none")
    names: dict[str, None] = {}  # ordered set
    for argument in arguments:
        names.update(dict.fromkeys(_expand_argument(argument, column, standard_input)))
    if not names:
        raise InvalidOption("the lists contain no inputs")
    return list(names)


def local_path(name: str) -> Path:
    """Return the path of an input that is a file."""
    return Path(os.fsdecode(name.encode("utf-8", "surrogateescape")))


def shown_name(name: str) -> str:
    """Return the name of an input as valid Unicode: bytes of file names that are not UTF-8 are escaped.

    >>> shown_name("/videos/caf\\udce9.mp4")
    '/videos/caf\\\\udce9.mp4'
    """
    return name.encode("utf-8", "backslashreplace").decode()


def base_name(name: str) -> str:
    """Return the file name of an input without its folder.

    >>> base_name("zip://clips/a.mp4::s3://bucket/clips.zip")
    'a.mp4'
    """
    return shown_name(name.partition("::")[0] if is_url(name) else name).rpartition("/")[2]


def _expand_argument(argument: str, column: str | None, standard_input: Iterable[str]) -> Iterator[str]:
    if argument == "-":
        yield from _expand_lines(standard_input)
    elif _is_list(argument, *LIST_SUFFIXES):
        yield from _expand_lines(_read_lines(Path(argument)))
    elif _is_list(argument, TABLE_SUFFIX):
        yield from _expand_lines(_read_column(Path(argument), column))
    elif is_url(argument):
        yield from expand_url(argument)
    else:
        yield from (_absolute(path) for path in expand_path(argument))


def _is_list(argument: str, *suffixes: str) -> bool:
    return not is_url(argument) and argument.lower().endswith(suffixes) and not Path(argument).is_dir()


def _expand_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield the inputs that the lines of a list stand for; a folder stands for its videos."""
    for line in lines:
        if not line.strip():
            continue
        if is_url(line):
            yield from expand_url(line, must_exist=False)
            continue
        path = Path(line)
        yield from map(_absolute, expand_path(line) if "\0" not in line and path.is_dir() else [path])


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  # symbolic links are not followed: the name remains recognizable


def _read_lines(path: Path) -> Iterator[str]:
    content = os.fsdecode(_read(path))
    return filter(None, content.split("\0") if "\0" in content else content.splitlines())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidOption(f"{path} cannot be read: {error.strerror}") from error


def _read_column(path: Path, column: str | None) -> Iterator[str]:
    """Yield the values of a column of a Parquet file; nulls are skipped."""
    require_extra("batch", needed_by=f"the table {path}")
    import pyarrow as pa
    from pyarrow import parquet

    if not path.exists():
        raise InvalidOption(f"{path}: there is no such file or folder")
    try:
        with parquet.ParquetFile(path) as table:
            schema = table.schema_arrow
            name = _choose_column(path, schema, column)
            for batch in table.iter_batches(columns=[name]):
                yield from (text for text in batch.column(0).cast(pa.string()).to_pylist() if text)
    except (pa.ArrowException, OSError) as error:
        raise InvalidOption(f"{path} cannot be read as Parquet: {str(error)[:300]}") from error


def _choose_column(path: Path, schema: Any, column: str | None) -> str:
    import pyarrow as pa

    texts: list[str] = [
        field.name
        for field in schema
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type) or pa.types.is_string_view(field.type)
    ]
    wanted = column or DEFAULT_COLUMN
    if wanted in texts:
        return wanted
    if column is None and len(texts) == 1:
        return texts[0]
    raise InvalidOption(
        f"{path} has no text column {wanted!r}; its text columns are {', '.join(map(repr, texts)) or 'none'}, "
        "choose one with --column"
    )
