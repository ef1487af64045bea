"""Access to the database that stores persistent state: a SQLite file, or PostgreSQL for several servers.

SQLite runs in WAL mode with `synchronous=FULL`: committed data survives a killed process and power loss. Writers start
with `BEGIN IMMEDIATE`, so that concurrent writers wait for each other instead of failing during the transaction.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from serve.errors import ConfigurationError, StoreFull, StoreUnavailable
from serve.extras import require_extra

logger = logging.getLogger(__name__)

BACKENDS = ("sqlite", "postgresql")
NEWEST_REVISION = "0008"
BUSY_TIMEOUT_MS = 10_000
SQLITE_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "busy_timeout": BUSY_TIMEOUT_MS,
    "secure_delete": 1,  # deleted content is overwritten with zeros
}
CONNECT_TIMEOUT_SECONDS = 5
MIGRATION_LOCK = 1_633_907_827  # key of the PostgreSQL advisory lock that serialises migrations (arbitrary)


def parse_url(url: str) -> sa.URL:
    """Parse the URL of a database.

    Raises:
        ConfigurationError: the URL is invalid, or its database is not supported.
    """
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise ConfigurationError(f"store_url is not a valid database URL: {error}", field="store_url") from error
    if parsed.get_backend_name() not in BACKENDS:
        raise ConfigurationError(
            f"store_url must be a sqlite or postgresql URL, got {parsed.get_backend_name()}", field="store_url"
        )
    return parsed


class Database:
    """Connections to one database; all methods block, so call them in worker threads."""

    def __init__(self, url: str) -> None:
        """Parse the URL; connections are opened on first use.

        Raises:
            ConfigurationError: the URL is invalid, or its database is not supported.
            MissingExtra: the PostgreSQL driver is not installed.
        """
        parsed = parse_url(url)
        self.is_postgres = parsed.get_backend_name() == "postgresql"
        if self.is_postgres:
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = parsed
        if self.is_postgres:
            require_extra("postgres", needed_by="a PostgreSQL store_url")
        self.engine = _create_postgres_engine(parsed) if self.is_postgres else _create_sqlite_engine(parsed)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that reads a consistent snapshot.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with _translate_database_errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that is committed at the end of the block and rolled back on an exception.

        Raises:
            StoreUnavailable: the database cannot be reached; nothing was changed.
        """
        with _translate_database_errors(), self.engine.connect() as connection:
            writer = connection.execution_options(is_writer=True)
            with writer.begin():
                yield writer

    def migrate(self) -> None:
        """Migrate the tables to the schema of this release; one process at a time.

        Raises:
            StoreUnavailable: the database cannot be reached.
            ConfigurationError: the database has a schema revision that this release does not know.
        """
        if self.read_revision() == NEWEST_REVISION:
            return
        from alembic import command, config, util  # slow to import; not needed if the schema is current

        with self.writing() as connection:
            if self.is_postgres:
                connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            settings = config.Config(attributes={"connection": connection})
            settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            try:
                command.upgrade(settings, "head")
            except util.CommandError as error:
                raise ConfigurationError(
                    f"the database was written by another release, and this release cannot migrate it: {error}",
                    field="store_url",
                ) from error
        logger.info("store migrated to revision %s", NEWEST_REVISION)

    def erase_deleted(self) -> bool:
        """Erase deleted content from the files of SQLite; return whether all of it was erased.

        SQLite overwrites pages with zeros when rows are deleted, but the write-ahead log contains the old pages until
        it is copied into the database and truncated, which this method does. Concurrent reads can prevent it.
        For PostgreSQL, this method returns False: deleted rows remain until VACUUM, which the operator schedules.

        Raises:
            StoreUnavailable: the database is unavailable.
        """
        if self.is_postgres:
            return False
        with _translate_database_errors():
            connection = self.engine.raw_connection()
            try:
                is_busy, *_ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        return not is_busy

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def read_revision(self) -> str | None:
        """Return the revision of the schema; None for a database without tables.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self.reading() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("select version_num from alembic_version")).scalar()


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file; create its folder.

    Raises:
        ConfigurationError: the folder cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"data_dir {path.parent} cannot be created: {error}", field="data_dir") from error
    return sa.URL.create("sqlite", database=str(path)).render_as_string()


def _create_sqlite_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_MS / 1000})
    sa.event.listen(engine, "connect", _set_pragmas)
    sa.event.listen(engine, "begin", _begin_transaction)
    return engine


def _create_postgres_engine(url: sa.URL) -> sa.Engine:
    return sa.create_engine(
        url,
        pool_pre_ping=True,  # connections that the database has closed are replaced before use
        pool_timeout=CONNECT_TIMEOUT_SECONDS,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS},
    )


def _set_pragmas(connection: Any, _: Any) -> None:
    """Set `SQLITE_PRAGMAS` and check that each took effect."""
    for name, expected in SQLITE_PRAGMAS.items():
        connection.execute(f"PRAGMA {name} = {expected}")
        actual = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if actual != expected:
            raise ConfigurationError(
                f"SQLite did not accept {name} = {expected}; the value is {actual}", field="store_url"
            )


def _begin_transaction(connection: sa.Connection) -> None:
    is_writer = connection.get_execution_options().get("is_writer", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


@contextmanager
def _translate_database_errors() -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        if (fault := _sqlite_fault(error)) is not None:
            raise fault from error
        if isinstance(error, exc.OperationalError | exc.InterfaceError):
            raise StoreUnavailable(f"the database is unavailable: {error.__class__.__name__}") from error
        if not error.connection_invalidated:
            raise
        raise StoreUnavailable("the database closed the connection") from error
    except exc.TimeoutError as error:
        raise StoreUnavailable(f"the database is unavailable: {error.__class__.__name__}") from error


def _sqlite_fault(error: exc.DBAPIError) -> StoreUnavailable | None:
    """Return the error for a disk or file that SQLite cannot use; None for others."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is None:
        return None
    primary = code & 0xFF  # the other bits of an extended code give details
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull("the disk of the database is full; nothing was changed")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreUnavailable("the database file is damaged; stop the server and restore a backup of its data folder")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return StoreUnavailable("the file of the database cannot be read or written; check its folder and disk")
    return None
