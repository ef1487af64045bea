"""Folders of unfinished uploads: one per running server, removed at its end, or by the next start after a kill."""

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serve.errors import DiskFull, FolderUnavailable

PREFIX = "actserve-uploads-"
LOCK_FILE = "in-use"  # locked as long as the server of the folder runs; the kernel releases the lock when it dies
PROBE_BYTES = 65536
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class UploadFolder:
    """The folder of uploads in progress."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self) -> Path:
        """Return an unused path in the folder."""
        return self.folder / secrets.token_hex(16)


class OwnUploadFolder(UploadFolder):
    """The folder of one server; folders of killed servers beside it are deleted when it is created."""

    def __init__(self, parent: Path | None) -> None:
        """Create the folder in `parent`, or in the system's folder for temporary files.

        Raises:
            OSError: it cannot be created.
        """
        root = Path(tempfile.gettempdir()) if parent is None else parent
        self.num_swept = sum(_sweep(folder) for folder in root.glob(f"{PREFIX}*"))
        super().__init__(Path(tempfile.mkdtemp(prefix=PREFIX, dir=root)))
        self._lock = self._acquire_lock()

    def new(self) -> Path:
        """Return an unused path in the folder; create the folder again if it was deleted, e.g. as old temporary data.

        Raises:
            OSError: it cannot be created.
        """
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700)
            os.close(self._lock)
            self._lock = self._acquire_lock()
        return super().new()

    def _acquire_lock(self) -> int:
        lock = os.open(self.folder / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock

    def close(self) -> None:
        """Delete the folder with the uploads that are left in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _sweep(folder: Path) -> bool:
    """Delete the folder of a killed server; return False if its server still runs, or it belongs to another user."""
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return False
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(lock)


def find_disk_fault(folder: Path, content: str) -> str | None:
    """Return why `content` cannot be stored in a folder, found by writing a small file; None if it can."""
    path = folder / f"probe-{secrets.token_hex(8)}"
    try:
        with translate_disk_errors(content):
            path.write_bytes(bytes(PROBE_BYTES))
    except FolderUnavailable as error:
        return error.message
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return None


@contextmanager
def translate_disk_errors(content: str) -> Iterator[None]:
    """Translate failures of the disk that stores `content`.

    Raises:
        DiskFull: the disk is full.
        FolderUnavailable: the folder cannot be written, e.g. because it was deleted.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(f"the disk of the {content} is full; nothing was stored") from error
        raise FolderUnavailable(f"the folder of the {content} cannot be written: {error.strerror}") from error
