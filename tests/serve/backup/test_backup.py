"""Backups of a store in use, their restoration into SQLite and PostgreSQL, and files that are no backups."""

import io
import json
import sqlite3
import tarfile
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from serve.backup.create import create_backup
from serve.backup.manifest import MANIFEST, STORE
from serve.backup.restore import read_manifest, restore_backup
from serve.data_folder import database_path, open_database
from serve.errors import BackupRefused
from serve.feedback.folder import Correction, FeedbackFolder
from serve.settings import ServeSettings
from serve.store.database import NEWEST_REVISION, Database
from serve.store.schema import metadata
from tests.running_server import ROOT
from tests.serve.store.test_migration_chain import fill


def settings_for(folder: Path, **changes: object) -> ServeSettings:
    return ServeSettings(data_dir=folder / "data", repository=folder / "models", **changes)  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path, database: Database) -> ServeSettings:
    """A server's data: a row in every table (SQLite and PostgreSQL), feedback, an upload of a job and a model."""
    folder = tmp_path / "source"
    settings = settings_for(folder, store_url=database.url.render_as_string(hide_password=False))
    fill(database)
    with database.writing() as connection:  # an unfinished job with an upload
        connection.execute(sa.text("update jobs set status = 'in_progress'"))
        connection.execute(sa.text("update job_inputs set source = 'upload', place = '0', state = 'pending'"))
    upload = folder / "data" / "jobs" / "inputs" / "x" / "0"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"video")
    (folder / "data" / "jobs" / "inputs" / "finished").mkdir()
    (folder / "data" / "jobs" / "inputs" / "finished" / "0").write_bytes(b"of no unfinished job")
    (folder / "data" / "jobs" / "storage.json").write_text('{"id": "one"}\n')
    feedback = FeedbackFolder(folder / "data" / "feedback", max_bytes=10**6, max_clips=10)
    feedback.open()
    (tmp_path / "clip").write_bytes(b"clip")
    feedback.add(tmp_path / "clip", Correction(label="waving"), container="avi")
    model = folder / "models" / "m_video" / "1" / "contract.json"
    model.parent.mkdir(parents=True)
    model.write_text("{}")
    return settings


def rows_of(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.reading() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(sa.select(table)))
            for table in metadata.sorted_tables
        }


@pytest.mark.parametrize("target_kind", ["sqlite", "postgresql"])
def test_a_restored_backup_has_everything(
    source: ServeSettings, tmp_path: Path, target_kind: str, request: pytest.FixtureRequest
) -> None:
    environment = {
        "SERVE_MODEL": "m",
        "SERVE_JOBS__WEBHOOK_SECRET": "kept-private",
        "SERVE_STORE_URL": "u",
        "HOME": "/",
    }
    created = create_backup(source, tmp_path / "backup.tar", environment=environment)
    assert created.manifest.omitted_settings == ("SERVE_JOBS__WEBHOOK_SECRET", "SERVE_STORE_URL")
    assert b"kept-private" not in (tmp_path / "backup.tar").read_bytes()
    target = settings_for(tmp_path / "target")
    if target_kind == "postgresql":
        url = Database(request.getfixturevalue("postgres_url")).url
        name = f"{url.database}_restored"
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(sa.text(f"create database {name}"))
        admin.dispose()
        target = settings_for(
            tmp_path / "target", store_url=url.set(database=name).render_as_string(hide_password=False)
        )
    assert restore_backup(target, tmp_path / "backup.tar") == created.manifest
    before, after = open_database(source), open_database(target)
    try:
        assert after.read_revision() == NEWEST_REVISION
        assert rows_of(after) == rows_of(before)
    finally:
        before.close()
        after.close()
    for name in (
        "data/jobs/inputs/x/0",
        "data/jobs/storage.json",
        "data/feedback/feedback.jsonl",
        "models/m_video/1/contract.json",
    ):
        assert (tmp_path / "target" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
    assert not (tmp_path / "target/data/jobs/inputs/finished").exists()
    (clip,) = (tmp_path / "target/data/feedback/clips").iterdir()
    assert clip.read_bytes() == b"clip"
    assert (tmp_path / "target/data/restored-settings.env").read_text() == "SERVE_MODEL=m\n"
    assert not list((tmp_path / "target/data").glob(".restore-*"))
    with pytest.raises(BackupRefused, match="not empty"):
        restore_backup(target, tmp_path / "backup.tar")


def test_a_backup_during_writes_is_one_state(tmp_path: Path) -> None:
    """Each transaction adds the same number to two tables; a copy between two statements would tear them apart."""
    settings = settings_for(tmp_path)
    database = open_database(settings)
    database.migrate()
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with database.writing() as connection:
                connection.execute(
                    sa.text("insert into vocabularies (name, latest, is_deleted) values (:name, 1, false)"),
                    {"name": f"v{number}"},
                )
                connection.execute(
                    sa.text("insert into model_aliases (configured, alias, name) values ('c', :name, 'n')"),
                    {"name": f"v{number}"},
                )

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for attempt in range(5):
            create_backup(settings, tmp_path / f"{attempt}.tar", environment={})
    finally:
        stop.set()
        thread.join()
        database.close()
    for attempt in range(5):
        with tarfile.open(tmp_path / f"{attempt}.tar") as archive:
            archive.extract(STORE, tmp_path / str(attempt), filter="data")
        with sqlite3.connect(tmp_path / str(attempt) / STORE) as connection:
            names = set(connection.execute("select name from vocabularies"))
            aliases = set(connection.execute("select alias from model_aliases"))
        connection.close()
        assert names == aliases


def test_a_backup_of_an_earlier_release_is_migrated(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "old")
    path = database_path(settings.data_dir)
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.executescript((ROOT / "tests/golden/store/before_jobs.sql").read_text(encoding="utf-8"))
    connection.close()
    assert create_backup(settings, tmp_path / "old.tar", environment={}).manifest.revision == "0003"
    target = settings_for(tmp_path / "new")
    restore_backup(target, tmp_path / "old.tar")
    database = open_database(target)
    assert database.read_revision() == NEWEST_REVISION
    with database.reading() as reader:
        assert reader.execute(sa.text("select name from vocabularies")).scalars().all() == ["pets"]
    database.close()


@pytest.fixture
def backup_file(tmp_path: Path) -> Path:
    settings = settings_for(tmp_path / "small")
    database = open_database(settings)
    database.migrate()
    database.close()
    create_backup(settings, tmp_path / "small.tar", environment={"SERVE_MODEL": "m"})
    return tmp_path / "small.tar"


def rewritten(source: Path, target: Path, change: str) -> Path:
    """Write a damaged copy of a backup."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old.getmembers():
            stream = old.extractfile(member)
            assert stream is not None
            content = stream.read()
            if member.name == MANIFEST and change in ("name", "format"):
                document = json.loads(content)
                if change == "name":
                    document["files"][0]["name"] = "models/../../evil"
                else:
                    document["format"] = 2
                content = json.dumps(document).encode()
            if member.name == STORE and change == "content":
                content = bytes([content[0] ^ 1]) + content[1:]
            if member.name == STORE and change == "size":
                content += b"more"
            if member.name == STORE and change == "link":
                member.type, member.linkname, content = tarfile.SYMTYPE, "/etc/passwd", b""
            if member.name == STORE and change == "missing":
                continue
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
        if change == "extra":
            new.addfile(tarfile.TarInfo("models/more"), io.BytesIO(b""))
    return target


@pytest.mark.parametrize("change", ["name", "format", "content", "size", "link", "missing", "extra"])
def test_a_damaged_backup_changes_nothing(backup_file: Path, tmp_path: Path, change: str) -> None:
    damaged = rewritten(backup_file, tmp_path / "damaged.tar", change)
    target = settings_for(tmp_path / "target")
    with pytest.raises(BackupRefused):
        restore_backup(target, damaged)
    assert not [path for path in (tmp_path / "target").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\0" * 10240, b"\x1f\x8b" + b"0" * 100], ids=["empty", "text", "zeros", "gzip"]
)
def test_other_files_are_no_backups(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BackupRefused):
        read_manifest(tmp_path / "file")


def test_a_truncated_backup_is_refused(backup_file: Path, tmp_path: Path) -> None:
    content = backup_file.read_bytes()
    for size in (100, 1000, len(content) // 2, len(content) - 12_000):
        (tmp_path / "cut.tar").write_bytes(content[:size])
        with pytest.raises(BackupRefused):
            restore_backup(settings_for(tmp_path / "target"), tmp_path / "cut.tar")


def test_a_backup_replaces_no_file_and_needs_a_store(tmp_path: Path, backup_file: Path) -> None:
    with pytest.raises(BackupRefused, match="exists"):
        create_backup(settings_for(tmp_path / "small"), backup_file, environment={})
    with pytest.raises(BackupRefused, match="empty"):
        create_backup(settings_for(tmp_path / "none"), tmp_path / "new.tar", environment={})
    assert not (tmp_path / "new.tar").exists()
