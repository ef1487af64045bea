"""The folder of uploaded inputs, which are stored durably until their job is finished.

    storage.json        id of the folder; server processes that share the folder read the same id
    incoming/           uploads in progress
    inputs/JOB/INDEX    inputs of jobs

Each file is flushed to disk and moved to the folder of its job before the job is stored in the database. If the process
dies in between, `sweep` later deletes the files that belong to no job.
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
    """Stores uploaded inputs of jobs. All methods block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.storage_id = ""  # set by `open`

    @property
    def incoming(self) -> UploadFolder:
        """Folder of uploads in progress."""
        return UploadFolder(self._folder / "incoming")

    def open(self) -> None:
        """Create missing subfolders and read the id of the folder, or create it.

        Raises:
            ConfigurationError: the folder cannot be used.
        """
        try:
            for name in ("incoming", "inputs"):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            self.storage_id = self._read_id()
        except (OSError, InvalidJson, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the job folder {self._folder} cannot be used: {error}", field="jobs.dir"
            ) from error

    def adopt(self, job_id: str, files: Sequence[ReceivedFile]) -> tuple[NewInput, ...]:
        """Move uploads to the folder of a job, flush them to disk and return them as inputs.

        Raises:
            OSError: the folder cannot be written.
        """
        target = self._inputs_folder(job_id)
        target.mkdir()
        for index, file in enumerate(files):
            sync_to_disk(file.path)
            file.path.rename(target / str(index))
        sync_to_disk(target)
        sync_to_disk(target.parent)
        return tuple(
            NewInput(
                name=file.filename or f"video {index}", source="upload", location=str(index), num_bytes=file.num_bytes
            )
            for index, file in enumerate(files)
        )

    def path(self, job_id: str, location: str) -> Path:
        """Return the path of an upload."""
        return self._inputs_folder(job_id) / location

    def remove(self, job_id: str, location: str | None = None) -> None:
        """Delete one upload of a job, or all of them if `location` is None; missing files are ignored."""
        if location is not None:
            self.path(job_id, location).unlink(missing_ok=True)
        else:
            shutil.rmtree(self._inputs_folder(job_id), ignore_errors=True)

    def sweep(self, statuses: Callable[[Sequence[str]], dict[str, JobStatus]]) -> None:
        """Delete uploads of finished jobs, and files older than `ORPHAN_SECONDS` that belong to no job."""
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

    def _inputs_folder(self, job_id: str) -> Path:
        return self._folder / "inputs" / job_id

    def _read_id(self) -> str:
        path = self._folder / STORAGE_FILE
        if not path.exists():
            draft = path.with_name(f".{secrets.token_hex(8)}.part")
            write_atomically(draft, f'{{"id": "{secrets.token_hex(16)}"}}\n')
            with suppress(FileExistsError):  # another process has just created it
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
