"""What is on disk stays there."""

import os
from pathlib import Path


def sync_to_disk(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive power loss."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
