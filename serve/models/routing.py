"""Routes from model names to versions and from aliases to models, kept in the store.

An activation persists across restarts until the operator changes SERVE_MODEL. All gateways that share a store use the
same routes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from serve.store.database import Database
from serve.store.schema import model_aliases, model_versions

DEFAULT = "default"  # the alias of requests that name no model


@dataclass(frozen=True, kw_only=True)
class Routes:
    """The version of each model name and the model of each alias, with the previous ones for a rollback."""

    versions: Mapping[str, int] = field(default_factory=dict)  # model -> version
    previous: Mapping[str, int] = field(default_factory=dict)  # model -> version before
    aliases: Mapping[str, str] = field(default_factory=dict)  # alias -> model
    aliases_before: Mapping[str, str] = field(default_factory=dict)  # alias -> model before

    def with_version(self, name: str, version: int) -> "Routes":
        """Return routes with `name` at `version`; its current version becomes the target of a rollback."""
        before = self.versions.get(name)
        if before == version:
            return self
        previous = self.previous if before is None else {**self.previous, name: before}
        return replace(self, versions={**self.versions, name: version}, previous=previous)

    def with_alias(self, alias: str, name: str) -> "Routes":
        """Return routes with `alias` for `name`; its current model becomes the target of a rollback."""
        before = self.aliases.get(alias)
        if before == name:
            return self
        aliases_before = self.aliases_before if before is None else {**self.aliases_before, alias: before}
        return replace(self, aliases={**self.aliases, alias: name}, aliases_before=aliases_before)


class RouteStore:
    """Reads and writes routes; every method blocks and belongs in a worker thread."""

    def __init__(self, database: Database, *, configured: str) -> None:
        """`configured` is the value of SERVE_MODEL; routes are stored under it."""
        self._database = database
        self._configured = configured

    def load(self) -> Routes:
        """Return the routes stored for this value of SERVE_MODEL; empty if there are none.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        with self._database.reading() as connection:
            versions = connection.execute(
                sa.select(model_versions).where(model_versions.c.configured == self._configured)
            ).all()
            aliases = connection.execute(
                sa.select(model_aliases).where(model_aliases.c.configured == self._configured)
            ).all()
        return Routes(
            versions={row.name: row.version for row in versions},
            previous={row.name: row.previous for row in versions if row.previous is not None},
            aliases={row.alias: row.name for row in aliases},
            aliases_before={row.alias: row.previous for row in aliases if row.previous is not None},
        )

    def save(self, routes: Routes) -> None:
        """Store routes for this value of SERVE_MODEL.

        Raises:
            StoreUnavailable: the database does not answer; nothing was changed.
        """
        versions = [
            {"configured": self._configured, "name": name, "version": version, "previous": routes.previous.get(name)}
            for name, version in routes.versions.items()
        ]
        aliases = [
            {"configured": self._configured, "alias": alias, "name": name, "previous": routes.aliases_before.get(alias)}
            for alias, name in routes.aliases.items()
        ]
        with self._database.writing() as connection:
            for table, rows in ((model_versions, versions), (model_aliases, aliases)):
                connection.execute(table.delete().where(table.c.configured == self._configured))
                if rows:
                    connection.execute(table.insert(), rows)
