"""Crash-safe file writes, fsync, free-space checks and content hashes."""

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
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block ends, and is removed when it raises.

    Readers see either the old file or the complete new one, even after power loss: the content is flushed before the
    rename and the folder after it. If several writers run concurrently, the file of the last rename remains, complete.
    Missing parent folders are created.
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
    """Replace the content of a file atomically (see `atomic_write`); text is written as UTF-8."""
    with atomic_write(path) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_free_space(folder: Path, num_bytes: int) -> None:
    """Check that the disk of `folder` has `num_bytes` free; the folder need not exist yet.

    Raises:
        OSError: ENOSPC; the message states how much is free and how much is needed.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        message = f"only {format_size(free)} free on the disk, {format_size(num_bytes)} needed"
        raise OSError(errno.ENOSPC, message, str(folder))


def format_size(num_bytes: float) -> str:
    """Format a number of bytes, e.g. `1.79 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.4g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.4g} GB"
