"""Crash-safe file writes, flushing to the disk, room on it, and content hashes."""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync_to_disk(path: Path) -> None:
    """Flush a file's content, or a folder's entries, so that they survive power loss."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block ends, and is removed when it raises.

    Readers see the old file or the whole new one, also after power loss: the content is flushed before the rename and
    the folder after it. Of several concurrent writers one wins, with its whole file. Missing folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        yield partial
        sync_to_disk(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_to_disk(path.parent)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file by `content` as `atomic_write` does; text is written as UTF-8."""
    with atomic_write(path) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_space(folder: Path, num_bytes: int) -> None:
    """Make sure that the disk of a folder, which need not exist yet, has room.

    Raises:
        OSError: ENOSPC, with what is free and what is needed.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        message = f"the disk has {shown_size(free)} free, {shown_size(num_bytes)} are needed"
        raise OSError(errno.ENOSPC, message, str(folder))


def shown_size(num_bytes: float) -> str:
    """Format a number of bytes, e.g. `1.79 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.4g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.4g} GB"
