"""A store of each earlier schema, with a row in every table, is migrated to the newest without losing anything."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command, config
from alembic.script import ScriptDirectory

import serve.store.database
from serve.store.database import NEWEST_REVISION, Database
from serve.store.schema import metadata

MIGRATIONS = Path(serve.store.database.__file__).parent / "migrations"


def alembic_config(**attributes: Any) -> config.Config:
    settings = config.Config(attributes=attributes)
    settings.set_main_option("script_location", str(MIGRATIONS))
    return settings


REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())


def value_for(column: sa.Column[Any]) -> Any:
    """Return the same value for each type, so that foreign keys hold."""
    kind = column.type
    if isinstance(kind, sa.LargeBinary):
        return b"\x00\xff"
    if isinstance(kind, sa.Boolean):
        return False
    if isinstance(kind, (sa.Integer, sa.Float, sa.Numeric)):
        return 1
    return "x"


def fill(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Insert one row into each empty table of the current schema; return all rows by table."""
    tables = sa.MetaData()
    tables.reflect(database.engine)
    with database.writing() as connection:
        for table in tables.sorted_tables:
            if table.name != "alembic_version" and not connection.execute(sa.select(table)).first():
                connection.execute(table.insert(), {column.name: value_for(column) for column in table.columns})
        return {
            table.name: [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for table in tables.sorted_tables
            if table.name != "alembic_version"
        }


@pytest.fixture
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database without tables."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else f"sqlite:///{tmp_path}/store.db"
    database = Database(url)
    request.addfinalizer(database.close)
    return database


def test_the_newest_revision_is_the_last_of_the_chain() -> None:
    assert REVISIONS[-1] == NEWEST_REVISION
    assert len(REVISIONS) == int(NEWEST_REVISION)


@pytest.mark.parametrize("empty", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("revision", REVISIONS)
def test_every_row_of_an_earlier_schema_survives(empty: Database, revision: str) -> None:
    with empty.writing() as connection:
        command.upgrade(alembic_config(connection=connection), revision)
    assert empty.read_revision() == revision
    before = fill(empty)
    empty.migrate()
    assert empty.read_revision() == NEWEST_REVISION
    with empty.reading() as connection:
        for name, rows in before.items():
            after = connection.execute(sa.select(metadata.tables[name])).all()
            kept = [{key: row._mapping[key] for key in rows[0]} for row in after]
            assert kept == rows, name
