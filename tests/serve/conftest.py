"""Databases to test against: SQLite always, PostgreSQL where its embedded server can run."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from serve.store.database import Database, sqlite_url


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """A database of its own on the PostgreSQL server."""
    name = f"test_{secrets.token_hex(4)}"
    admin = sa.create_engine(sa.make_url(postgres).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    yield sa.make_url(postgres).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"drop database {name} with (force)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated database of each kind."""
    is_sqlite = request.param == "sqlite"
    url = sqlite_url(tmp_path / "store.db") if is_sqlite else request.getfixturevalue("postgres_url")
    database = Database(url)
    database.migrate()
    yield database
    database.close()
