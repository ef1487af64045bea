"""Restore a backup into an empty store and empty folders; everything is verified before anything is put in place."""

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from serve.backup.database_copy import check_is_empty, copy_from_file
from serve.backup.manifest import MANIFEST, MAX_MANIFEST_BYTES, SETTINGS, STORE, BackupFile, Manifest
from serve.data_folder import open_database
from serve.errors import BackupRefused
from serve.files import check_free_space, file_sha256, sync_to_disk
from serve.repository import BUNDLED_REPOSITORY
from serve.settings import ServeSettings

CHUNK_BYTES = 2**20


def restore_backup(settings: ServeSettings, source: Path) -> Manifest:
    """Restore a backup: the database, feedback, uploads of jobs and models; settings go to `restored-settings.env`.

    The database, the folders of feedback and jobs must be empty; models that exist must have the same content.

    Raises:
        BackupRefused: the file is no valid backup, or the target is not empty; nothing was changed.
        ConfigurationError: the backup has a schema that this release does not know.
        StoreUnavailable: the database cannot be reached.
        OSError: a file cannot be read or written.
    """
    data_dir = settings.data_dir.expanduser()
    manifest = read_manifest(source)
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=data_dir) as name, _open(source) as archive:
        staging = Path(name)
        archive.next()  # the manifest
        check_free_space(data_dir, sum(file.num_bytes for file in manifest.files))
        _extract(archive, manifest, staging)
        targets = {"feedback": settings.feedback_folder, "jobs": settings.jobs_folder}
        for folder, target in targets.items():
            _check_folder_is_empty(target, folder)
        _check_models(manifest, settings.repository)
        database = open_database(settings)
        try:
            check_is_empty(database)
            _move(staging / "models", settings.repository)
            for folder, target in targets.items():
                _move(staging / folder, target)
            shutil.move(staging / SETTINGS, data_dir / "restored-settings.env")
            copy_from_file(staging / STORE, database)  # last: with it, the restore is complete
        finally:
            database.close()
    return manifest


def read_manifest(source: Path) -> Manifest:
    """Return the manifest of a backup.

    Raises:
        BackupRefused: the file is no backup.
        OSError: the file cannot be read.
    """
    with _open(source) as archive:
        return _read_manifest(archive, source)


@contextmanager
def _open(source: Path) -> Iterator[tarfile.TarFile]:
    """Open a backup; errors of its format in the block become `BackupRefused`."""
    try:
        archive = tarfile.open(source, "r:")  # noqa: SIM115  # closed below
    except (tarfile.TarError, EOFError) as error:
        raise BackupRefused(f"{source} is not a backup: {error}") from error
    except OSError as error:
        raise BackupRefused(f"{source} cannot be read: {error.strerror}") from error
    try:
        with archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise BackupRefused(f"{source} is damaged: {error}") from error


def _read_manifest(archive: tarfile.TarFile, source: Path) -> Manifest:
    member = archive.next()
    if member is None or member.name != MANIFEST or not member.isreg() or member.size > MAX_MANIFEST_BYTES:
        raise BackupRefused(f"{source} is not a backup: its first member must be {MANIFEST}")
    stream = archive.extractfile(member)
    assert stream is not None, "the member is a regular file"
    try:
        manifest = Manifest.model_validate_json(stream.read())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BackupRefused(f"{source} has an invalid manifest: {place}: {first['msg']}") from error
    names = [file.name for file in manifest.files]
    if len(set(names)) != len(names) or not {STORE, SETTINGS} <= set(names):
        raise BackupRefused(f"{source} has an invalid manifest: {STORE} and {SETTINGS} are needed, each file once")
    return manifest


def _extract(archive: tarfile.TarFile, manifest: Manifest, staging: Path) -> None:
    """Write the files of the manifest below `staging` and verify size and SHA-256 of each.

    Raises:
        BackupRefused: a file is missing, unexpected or differs.
    """
    expected = {file.name: file for file in manifest.files}
    while (member := archive.next()) is not None:
        file = expected.pop(member.name, None)
        if file is None or not member.isreg() or member.size != file.num_bytes:
            raise BackupRefused(f"the backup is damaged: {member.name!r} is unexpected or has another size")
        stream = archive.extractfile(member)
        assert stream is not None, "the member is a regular file"
        _write_verified(stream, file, staging / file.name)
    if expected:
        raise BackupRefused(f"the backup is damaged: {min(expected)!r} is missing")


def _write_verified(stream: IO[bytes], file: BackupFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("wb") as output:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            output.write(chunk)
    if digest.hexdigest() != file.sha256:
        raise BackupRefused(f"the backup is damaged: {file.name!r} has another SHA-256")
    sync_to_disk(target)


def _check_folder_is_empty(folder: Path, name: str) -> None:
    """Check that a folder has no visible files.

    Raises:
        BackupRefused: it has.
    """
    if any(path.is_file() and not path.name.startswith(".") for path in folder.rglob("*")):
        raise BackupRefused(f"the folder of {name} {folder} is not empty; restore into a new data folder")


def _check_models(manifest: Manifest, repository: Path) -> None:
    models = [file for file in manifest.files if file.name.startswith("models/")]
    if models and repository.resolve() == BUNDLED_REPOSITORY.resolve():
        raise BackupRefused(
            "the backup has models and SERVE_REPOSITORY is the folder of the distribution; set it to another folder"
        )
    for file in models:
        path = repository / file.name.removeprefix("models/")
        if path.exists() and file_sha256(path) != file.sha256:
            raise BackupRefused(f"{path} exists and differs from the backup")


def _move(source: Path, target: Path) -> None:
    """Move the files below `source` to `target`."""
    if not source.is_dir():
        return
    for path in sorted(source.rglob("*")):
        if path.is_file():
            destination = target / path.relative_to(source)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, destination)
