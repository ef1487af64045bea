"""Routes from model names to versions and from aliases to models, and their storage.

Routes persist across restarts until the operator changes SERVE_MODEL. All processes that share a database use the same
routes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from serve.errors import StaleVersion
from serve.store.database import Database
from serve.store.schema import model_aliases, model_versions

DEFAULT = "default"  # alias that is used for requests without a model


@dataclass(frozen=True, kw_only=True)
class Routes:
    """The version of each model name and the model of each alias, with the previous values for a rollback."""

    versions: Mapping[str, int] = field(default_factory=dict)  # model -> version
    previous: Mapping[str, int] = field(default_factory=dict)  # model -> previous version
    aliases: Mapping[str, str] = field(default_factory=dict)  # alias -> model
    previous_aliases: Mapping[str, str] = field(default_factory=dict)  # alias -> previous model

    def with_version(self, name: str, version: int) -> "Routes":
        """Return routes with `name` routed to `version`; a rollback restores the current version."""
        before = self.versions.get(name)
        if before == version:
            return self
        previous = self.previous if before is None else {**self.previous, name: before}
        return replace(self, versions={**self.versions, name: version}, previous=previous)

    def with_alias(self, alias: str, name: str) -> "Routes":
        """Return routes with `alias` routed to the model `name`; a rollback restores the current model."""
        before = self.aliases.get(alias)
        if before == name:
            return self
        previous_aliases = self.previous_aliases if before is None else {**self.previous_aliases, alias: before}
        return replace(self, aliases={**self.aliases, alias: name}, previous_aliases=previous_aliases)

    @property
    def etag(self) -> str:
        """Entity tag of these routes; equal routes have the same on every server process."""
        parts = (self.versions, self.previous, self.aliases, self.previous_aliases)
        content = json.dumps([dict(part) for part in parts], sort_keys=True)
        return f'"{hashlib.sha256(content.encode()).hexdigest()[:16]}"'

    def require_etag(self, if_match: str | None) -> None:
        """Check the value of `If-Match`, if there is one: entity tags separated by commas, or `*`.

        Raises:
            StaleVersion: these routes have another entity tag.
        """
        tags = None if if_match is None else {tag.strip() for tag in if_match.split(",")}
        if tags is not None and not tags & {"*", self.etag}:
            raise StaleVersion(f"the active models have changed: their ETag is {self.etag}", etag=self.etag)


class RouteStore:
    """Reads and writes routes; all methods block, so call them in a worker thread."""

    def __init__(self, database: Database, *, configured: str) -> None:
        """Create a store of routes for one value of SERVE_MODEL, `configured`."""
        self._database = database
        self._configured = configured

    def load(self) -> Routes:
        """Return the stored routes; they are empty if none are stored for this value of SERVE_MODEL.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        with self._database.reading() as connection:
            return self._load(connection)

    def _load(self, connection: sa.Connection) -> Routes:
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
            previous_aliases={row.alias: row.previous for row in aliases if row.previous is not None},
        )

    def save(self, routes: Routes, *, if_match: str | None = None) -> None:
        """Replace the stored routes, if those have the entity tag of `if_match`.

        Raises:
            StaleVersion: another server process has changed the stored routes; nothing was changed.
            StoreUnavailable: the database cannot be reached; nothing was changed.
        """
        versions = [
            {"configured": self._configured, "name": name, "version": version, "previous": routes.previous.get(name)}
            for name, version in routes.versions.items()
        ]
        aliases = [
            {
                "configured": self._configured,
                "alias": alias,
                "name": name,
                "previous": routes.previous_aliases.get(alias),
            }
            for alias, name in routes.aliases.items()
        ]
        with self._database.writing() as connection:
            stored = self._load(connection)
            if stored.versions:
                stored.require_etag(if_match)
            for table, rows in ((model_versions, versions), (model_aliases, aliases)):
                connection.execute(table.delete().where(table.c.configured == self._configured))
                if rows:
                    connection.execute(table.insert(), rows)
