"""The folder of uploaded inputs: durable until their job is finished.

    storage.json        id of the folder, which gateways that share it have in common
    incoming/           uploads while they arrive
    inputs/JOB/PLACE    inputs of jobs

A file is flushed and moved to its job before the job is stored. A process that dies leaves at worst files without a
job, which `sweep` deletes.
"""

import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from serve.errors import ConfigurationError
from serve.files import sync_to_disk, write_atomically
from serve.jobs.records import NewInput
from serve.jobs.states import FINISHED, JobStatus
from serve.strict_json import InvalidJson, loads
from serve.upload_folder import UploadFolder
from serve.uploads import ReceivedFile

logger = logging.getLogger(__name__)

ORPHAN_SECONDS = 86_400.0  # far longer than an upload takes
STORAGE_FILE = "storage.json"


class JobFolder:
    """The folder; every method blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.storage = ""  # id, known once the folder is open

    @property
    def incoming(self) -> UploadFolder:
        """Where uploads are written while they arrive."""
        return UploadFolder(self._folder / "incoming")

    def open(self) -> None:
        """Create what is missing and read the id of the folder.

        Raises:
            ConfigurationError: the folder cannot be used.
        """
        try:
            for name in ("incoming", "inputs"):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            self.storage = self._read_id()
        except (OSError, InvalidJson, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the folder of jobs {self._folder} cannot be used: {error}", field="jobs.dir"
            ) from error

    def adopt(self, job_id: str, files: Sequence[ReceivedFile]) -> tuple[NewInput, ...]:
        """Move uploads to a job and flush them; return its inputs.

        Raises:
            OSError: the folder cannot be written.
        """
        target = self._of(job_id)
        target.mkdir()
        for number, file in enumerate(files):
            sync_to_disk(file.path)
            file.path.rename(target / str(number))
        sync_to_disk(target)
        sync_to_disk(target.parent)
        return tuple(
            NewInput(
                name=file.filename or f"video {number}", source="upload", place=str(number), num_bytes=file.num_bytes
            )
            for number, file in enumerate(files)
        )

    def path(self, job_id: str, place: str) -> Path:
        """Return the path of an upload."""
        return self._of(job_id) / place

    def remove(self, job_id: str, place: str | None = None) -> None:
        """Delete an upload of a job, or all of them; those that are gone are no error."""
        if place is not None:
            self.path(job_id, place).unlink(missing_ok=True)
        else:
            shutil.rmtree(self._of(job_id), ignore_errors=True)

    def sweep(self, statuses: Callable[[Sequence[str]], dict[str, JobStatus]]) -> None:
        """Delete uploads of finished jobs, and old ones that belong to no job."""
        now = time.time()
        for path in _entries(self._folder / "incoming"):
            if _age(path, now) > ORPHAN_SECONDS:
                path.unlink(missing_ok=True)
        folders = list(_entries(self._folder / "inputs"))
        known = statuses([path.name for path in folders])
        for path in folders:
            is_orphan = path.name not in known and _age(path, now) > ORPHAN_SECONDS
            if is_orphan or known.get(path.name) in FINISHED:
                shutil.rmtree(path, ignore_errors=True)

    def _of(self, job_id: str) -> Path:
        return self._folder / "inputs" / job_id

    def _read_id(self) -> str:
        path = self._folder / STORAGE_FILE
        if not path.exists():
            draft = path.with_name(f".{secrets.token_hex(8)}.part")
            write_atomically(draft, f'{{"id": "{secrets.token_hex(16)}"}}\n')
            with suppress(FileExistsError):  # another gateway was first
                path.hardlink_to(draft)
            draft.unlink()
        return str(loads(path.read_bytes())["id"])


def _entries(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _age(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
