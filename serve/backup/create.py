"""Create a backup while servers run: the database, files of feedback and jobs, models and settings.

Files that a server may delete meanwhile are hard-linked first. The copy of the database is repeated if an unfinished
job in it has an upload that was deleted before it was linked, so a backup never refers to a file that it lacks.
"""

import errno
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, SecretStr

from serve.backup.database_copy import copy_to_file
from serve.backup.manifest import MANIFEST, SETTINGS, STORE, BackupFile, Manifest
from serve.data_folder import open_database
from serve.errors import BackupRefused
from serve.feedback.folder import FeedbackFolder
from serve.feedback.index import CLIPS, INDEX
from serve.files import atomic_write, file_sha256
from serve.jobs.folder import STORAGE_FILE
from serve.jobs.states import FINISHED
from serve.repository import BUNDLED_REPOSITORY
from serve.settings import ServeSettings
from serve.store.database import Database
from serve.version import VERSION

ATTEMPTS, PAUSE_SECONDS = 10, 0.5


@dataclass(frozen=True, kw_only=True)
class CreatedBackup:
    """Summary of a new backup."""

    manifest: Manifest
    num_bytes: int


def create_backup(
    settings: ServeSettings, target: Path, *, environment: Mapping[str, str], has_models: bool = True
) -> CreatedBackup:
    """Write a backup of a server's data to a new file.

    Models are left out with `has_models=False`, and if the folder of models is the one of the distribution.

    Raises:
        BackupRefused: the file exists, or the database cannot be copied.
        StoreUnavailable: the database cannot be reached.
        OSError: a file cannot be read or written.
    """
    if target.exists():
        raise BackupRefused(f"{target} exists; a backup does not replace a file")
    data_dir = settings.data_dir.expanduser()
    data_dir.mkdir(parents=True, exist_ok=True)
    repository = settings.repository.resolve()
    has_models = has_models and repository != BUNDLED_REPOSITORY.resolve()
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=data_dir) as name:
        staging = Path(name)
        database = open_database(settings)
        try:
            revision = _stage_store(database, settings, staging)
        finally:
            database.close()
        _stage_feedback(settings, staging)
        omitted = _write_settings(settings, staging / SETTINGS, environment)
        sources = {str(path.relative_to(staging)): path for path in _files(staging)}
        if has_models:
            sources.update({f"models/{path.relative_to(repository)}": path for path in _files(repository)})
        manifest = Manifest(
            version=VERSION,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            revision=revision,
            database="postgresql" if database.is_postgres else "sqlite",
            omitted_settings=omitted,
            has_models=has_models,
            files=tuple(
                BackupFile(name=name, num_bytes=path.stat().st_size, sha256=file_sha256(path))
                for name, path in sorted(sources.items())
            ),
        )
        _write_archive(target, manifest, sources, staging)
    return CreatedBackup(manifest=manifest, num_bytes=target.stat().st_size)


def _stage_store(database: Database, settings: ServeSettings, staging: Path) -> str:
    """Copy the database, and link the uploads of its unfinished jobs; return the revision of the schema."""
    folder = settings.jobs_folder
    for _ in range(ATTEMPTS):
        _link_uploads(folder, staging / "jobs")
        (staging / STORE).unlink(missing_ok=True)
        revision = copy_to_file(database, staging / STORE)
        _link_uploads(folder, staging / "jobs")
        if not _has_missing_uploads(staging):
            return revision
        time.sleep(PAUSE_SECONDS)
    raise BackupRefused(f"uploads of unfinished jobs are missing in {folder} after {ATTEMPTS} attempts")


def _link_uploads(folder: Path, target: Path) -> None:
    if not (folder / "inputs").is_dir():
        return
    target.mkdir(exist_ok=True)
    if (folder / STORAGE_FILE).exists() and not (target / STORAGE_FILE).exists():
        shutil.copyfile(folder / STORAGE_FILE, target / STORAGE_FILE)
    for path in _files(folder / "inputs"):
        _link(path, target / path.relative_to(folder))


def _has_missing_uploads(staging: Path) -> bool:
    """Whether an unfinished input in the copied database has no file; remove files that no unfinished input needs."""
    if not (staging / "jobs" / STORAGE_FILE).exists():
        return False
    copy = f"{(staging / STORE).as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(copy, uri=True)) as connection:
        if connection.execute("select 1 from sqlite_master where name = 'job_inputs'").fetchone() is None:
            return False
        rows = connection.execute(
            "select job_inputs.job_id, job_inputs.place from job_inputs join jobs on jobs.id = job_inputs.job_id "
            "where job_inputs.source = 'upload' and job_inputs.state in ('pending', 'running') "
            "and jobs.status not in (select value from json_each(?))",
            [json.dumps(FINISHED)],
        ).fetchall()
    needed = {staging / "jobs" / "inputs" / job_id / place for job_id, place in rows}
    present = set(_files(staging / "jobs" / "inputs"))
    for path in present - needed:
        path.unlink()
    return not needed <= present


def _stage_feedback(settings: ServeSettings, staging: Path) -> None:
    folder = settings.feedback_folder
    if not (folder / INDEX).exists():
        return
    target = staging / "feedback"
    (target / CLIPS).mkdir(parents=True)
    source = FeedbackFolder(folder, max_bytes=settings.feedback.max_bytes, max_clips=settings.feedback.max_clips)
    with source.locked():
        shutil.copyfile(folder / INDEX, target / INDEX)
        for path in _files(folder / CLIPS):
            _link(path, target / CLIPS / path.name)


def _write_settings(settings: ServeSettings, path: Path, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Write the SERVE_* variables as lines NAME=VALUE; return the names of those that hold secrets."""
    secret = _secret_variables(settings, "SERVE_")
    lines, omitted = [], []
    for name, value in sorted(environment.items()):
        if name.upper().startswith("SERVE_") and value:
            if any(name.upper() == other or other.startswith(f"{name.upper()}__") for other in secret):
                omitted.append(name)
            elif "\n" in value:
                raise BackupRefused(f"{name} contains a line break and cannot be written to {SETTINGS}")
            else:
                lines.append(f"{name}={value}\n")
    path.write_text("".join(lines), encoding="utf-8")
    return tuple(omitted)


def _secret_variables(model: BaseModel, prefix: str) -> set[str]:
    names: set[str] = set()
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, SecretStr):
            names.add(f"{prefix}{name.upper()}")
        elif isinstance(value, BaseModel):
            names |= _secret_variables(value, f"{prefix}{name.upper()}__")
    return names


def _write_archive(target: Path, manifest: Manifest, sources: Mapping[str, Path], staging: Path) -> None:
    """Write the tar file under another name and rename it at the end, so that a partial backup has no valid name."""
    document = staging / MANIFEST
    document.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    with atomic_write(target) as draft, tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(document, MANIFEST, recursive=False)
        for file in manifest.files:
            archive.add(sources[file.name], file.name, recursive=False, filter=_plain)
        draft.chmod(0o600)  # hashes of API keys, and videos of callers


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Store every file as a regular file without its owner; a hard link is not a link in the archive."""
    member.type, member.linkname = tarfile.REGTYPE, ""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _files(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder, without those whose name or folder begins with a dot."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _link(source: Path, target: Path) -> None:
    """Link a file that is never changed in place; copy it across file systems; skip one that was just deleted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError, FileExistsError):
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            if not target.exists():
                shutil.copyfile(source, target)
