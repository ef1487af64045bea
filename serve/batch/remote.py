"""Inputs at URLs: listed and downloaded through fsspec (extra `batch`), e.g. s3://, gs://, https://, zip://...::...

The operator of the command chooses the URLs, so addresses are not restricted, unlike those of jobs.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from serve.errors import FetchFailed, InvalidOption
from serve.extras import require_extra
from serve.files import format_size
from serve.jobs.server_folder import VIDEO_SUFFIXES

URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
CHUNK_BYTES = 2**20
GLOB = re.compile(r"[*?\[]")
LIBRARY_ERRORS = (OSError, ValueError, ImportError, KeyError, RuntimeError)  # of fsspec and its file systems


def is_url(text: str) -> bool:
    """Return whether a text is a URL rather than a path.

    >>> is_url("s3://bucket/clips/"), is_url("zip://*.mp4::clips.zip"), is_url("C:/clips")
    (True, True, False)
    """
    return URL.match(text) is not None


def expand_url(url: str, *, must_exist: bool = True) -> Iterator[str]:
    """Yield the URLs of the videos that a URL stands for: a file, or with `/` at the end a folder, or a pattern.

    A single file is not looked up, so that a list of many files needs no request for each.

    Raises:
        InvalidOption: the protocol is unknown or its library is missing, or nothing can be listed or is found and
            `must_exist` is set.
        MissingExtra: the extra `batch` is not installed.
    """
    require_extra("batch", needed_by=f"the URL {url[:200]}")
    _check_protocol(url)
    first, chain = url.partition("::")[::2]
    is_folder = first.endswith("/")
    if not is_folder and not GLOB.search(first.split("?")[0] if first.startswith("http") else first):
        yield url
        return
    try:
        names = _list(first, chain, is_folder=is_folder)
    except LIBRARY_ERRORS as error:
        raise InvalidOption(f"{url[:300]} cannot be listed: {_describe(error)}") from error
    if not names and must_exist:
        raise InvalidOption(f"{url[:300]} matches no file" + (" with a video suffix" if is_folder else ""))
    yield from names


def download(url: str, target: Path, *, max_bytes: int, seconds: float) -> None:
    """Write the content of a URL to a file; blocks.

    Raises:
        FetchFailed: it cannot be read, is larger than `max_bytes` or takes longer than `seconds`.
    """
    import fsspec

    deadline = time.monotonic() + seconds
    size = 0
    try:
        with fsspec.open(url, "rb") as source, target.open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                size += len(chunk)
                if size > max_bytes:
                    raise FetchFailed(f"the file is larger than {format_size(max_bytes)}", limit_bytes=max_bytes)
                if time.monotonic() > deadline:
                    raise FetchFailed(f"the download took longer than {seconds:g} s", limit_seconds=seconds)
                file.write(chunk)
    except LIBRARY_ERRORS as error:
        raise FetchFailed(f"the file cannot be read: {_describe(error)}") from error


def _check_protocol(url: str) -> None:
    import fsspec

    for link in url.split("::"):
        protocol = link.partition("://")[0] if "://" in link else ""
        if not protocol:
            continue
        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            raise InvalidOption(f"{url[:300]} cannot be read: {_describe(error)}") from error


def _list(first: str, chain: str, *, is_folder: bool) -> list[str]:
    """Return the URLs below a folder, or of the files that match a pattern, in ascending order."""
    import fsspec

    suffix = f"::{chain}" if chain else ""
    pattern = f"{first}**" if is_folder else first
    filesystem, root = fsspec.core.url_to_fs(pattern + suffix)
    found: dict[str, Any] = filesystem.glob(root, detail=True)
    paths = sorted(path for path, info in found.items() if info["type"] == "file")
    if is_folder:
        paths = [path for path in paths if PurePosixPath(path).suffix.lower() in VIDEO_SUFFIXES]
    protocol = first.partition("://")[0]
    return [(path if "://" in path else f"{protocol}://{path}") + suffix for path in paths]


def _describe(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:300]
