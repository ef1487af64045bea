"""Faults of the SQLite file: each is a clear error without SQL."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from serve.errors import StoreFull, StoreUnavailable
from serve.store.database import Database, sqlite_url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "actserve.db"
    database = Database(sqlite_url(path))
    database.migrate()
    database.close()
    return path


def test_a_damaged_file_is_called_damaged(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)
    database = Database(sqlite_url(path))
    with pytest.raises(StoreUnavailable, match="damaged; stop the server and restore a backup") as caught:
        database.migrate()
    assert "select" not in str(caught.value).lower()
    database.close()


def test_a_full_disk_is_called_full(path: Path) -> None:
    database = Database(sqlite_url(path))
    with pytest.raises(StoreFull, match="disk of the database is full"), database.writing() as connection:
        connection.execute(sa.text("PRAGMA max_page_count = 1"))  # SQLite takes the present size instead
        connection.execute(sa.text("CREATE TABLE large (content BLOB)"))
        connection.execute(sa.text("INSERT INTO large VALUES (zeroblob(1000000))"))
    database.close()


def test_a_file_in_a_folder_that_vanished_is_unavailable(path: Path) -> None:
    database = Database(sqlite_url(path))
    path.parent.rename(path.parent.with_name("gone"))
    with pytest.raises(StoreUnavailable, match="cannot be read or written"), database.reading():
        pass
    database.close()
