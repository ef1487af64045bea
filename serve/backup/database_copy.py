"""Consistent copies of a database while servers use it, without programs of the database.

SQLite is copied with its backup API. PostgreSQL is read table by table in one repeatable-read transaction into a SQLite
file with the same schema, so that a backup of either can be restored into either.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from serve.errors import BackupRefused
from serve.store.database import NEWEST_REVISION, Database, sqlite_url
from serve.store.schema import metadata

BATCH_ROWS = 200  # rows with clips or features may be large


def copy_to_file(database: Database, target: Path) -> str:
    """Copy a database into a new SQLite file; return the revision of its schema.

    Raises:
        BackupRefused: the database is empty, or it is PostgreSQL with the schema of another release.
        StoreUnavailable: the database cannot be reached.
    """
    revision = database.read_revision()
    if revision is None:
        raise BackupRefused("the database is empty: no server has used it yet")
    if not database.is_postgres:
        _copy_sqlite(Path(str(database.url.database)), target)
        return revision
    if revision != NEWEST_REVISION:
        raise BackupRefused(
            f"the database has schema {revision}, this release writes {NEWEST_REVISION}: back up with the release that "
            "uses it, or start this release first"
        )
    copy = Database(sqlite_url(target))
    try:
        copy.migrate()
        with database.engine.connect().execution_options(
            isolation_level="REPEATABLE READ", stream_results=True
        ) as source, source.begin():  # fmt: skip
            _copy_tables(source, copy)
    finally:
        copy.close()
    return revision


def copy_from_file(source: Path, database: Database) -> None:
    """Copy a SQLite file of a backup into an empty database; a file of an earlier release is migrated first.

    Raises:
        BackupRefused: the database is not empty.
        ConfigurationError: the file has a schema that this release does not know.
        StoreUnavailable: the database cannot be reached.
    """
    copy = Database(sqlite_url(source))
    try:
        copy.migrate()
        check_is_empty(database)
        database.migrate()
        with copy.reading() as connection:
            _copy_tables(connection, database)
    finally:
        copy.close()


def check_is_empty(database: Database) -> None:
    """Check that no table of the database has a row.

    Raises:
        BackupRefused: one has.
        StoreUnavailable: the database cannot be reached.
    """
    with database.reading() as connection:
        existing = set(sa.inspect(connection).get_table_names())
        for table in metadata.sorted_tables:
            if table.name in existing and connection.execute(sa.select(sa.literal(1)).select_from(table)).first():
                raise BackupRefused(
                    f"the database is not empty: the table {table.name} has rows; restore into a new one"
                )


def _copy_sqlite(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer)
        writer.execute("pragma journal_mode = delete")  # one file, without a write-ahead log


def _copy_tables(source: sa.Connection, target: Database) -> None:
    """Copy every row of every table in one transaction of the target."""
    with target.writing() as writer:
        for table in metadata.sorted_tables:
            writer.execute(table.delete())  # rows that migrations insert
            for rows in _batches(source, table):
                writer.execute(table.insert(), rows)


def _batches(source: sa.Connection, table: sa.Table) -> Iterator[list[dict[str, Any]]]:
    result = source.execute(sa.select(table))
    while rows := result.fetchmany(BATCH_ROWS):
        yield [dict(row._mapping) for row in rows]
