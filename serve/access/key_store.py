"""API keys in the database."""

import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace

import sqlalchemy as sa

from serve.access.keys import ApiKey, new_key
from serve.access.limits import NO_LIMITS, KeyLimits
from serve.errors import InvalidOption, UnknownKey
from serve.scopes import Scope
from serve.store.database import Database
from serve.store.schema import api_keys

LIMIT_COLUMNS = tuple(field.name for field in fields(KeyLimits))


class KeyStore:
    """Reads and changes keys. All methods block: call them in a worker thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, key_id: str) -> ApiKey | None:
        """Return the key with the given id; None if it does not exist."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(api_keys).where(api_keys.c.key_id == key_id)).first()
        return None if row is None else _from_row(row)

    def all(self) -> list[ApiKey]:
        """Return all keys, including revoked and expired ones, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id))
            return [_from_row(row) for row in rows]

    def get_valid(self, name: str) -> ApiKey:
        """Return the valid key with the given name.

        Raises:
            UnknownKey: there is no valid key with this name.
        """
        with self._database.reading() as connection:
            key = self._find_valid(connection, name)
        if key is None:
            raise UnknownKey(f"there is no valid key named {name!r}")
        return key

    def has_valid(self) -> bool:
        """Return whether there is a valid key."""
        return any(key.is_valid() for key in self.all())

    def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        lifetime_seconds: float | None,
        limits: KeyLimits = NO_LIMITS,
    ) -> tuple[ApiKey, str]:
        """Create a key and return it with its text, which is not stored.

        Raises:
            InvalidOption: a valid key with this name exists.
        """
        key, text = new_key(name, tuple(scopes), lifetime_seconds=lifetime_seconds, limits=limits)
        with self._database.writing() as connection:
            self._check_name_is_free(connection, name)
            connection.execute(sa.insert(api_keys).values(_to_row(key)))
        return key, text

    def revoke(self, name: str) -> ApiKey:
        """Revoke the valid key with the given name.

        Raises:
            UnknownKey: there is no valid key with this name.
        """
        with self._database.writing() as connection:
            return self._revoke(connection, name)

    def rotate(self, name: str, *, lifetime_seconds: float | None) -> tuple[ApiKey, str]:
        """Replace the valid key with the given name by a new one with the same scopes and limits, in one transaction.

        Raises:
            UnknownKey: there is no valid key with this name.
        """
        with self._database.writing() as connection:
            old = self._revoke(connection, name)
            key, text = new_key(name, old.scopes, lifetime_seconds=lifetime_seconds, limits=old.limits)
            connection.execute(sa.insert(api_keys).values(_to_row(key)))
        return key, text

    def record_use(self, key_id: str, at: float) -> None:
        """Record when a key was last used."""
        with self._database.writing() as connection:
            connection.execute(sa.update(api_keys).where(api_keys.c.key_id == key_id).values(last_used_at=at))

    def _revoke(self, connection: sa.Connection, name: str) -> ApiKey:
        key = self._find_valid(connection, name)
        if key is None:
            raise UnknownKey(f"there is no valid key named {name!r}")
        revoked_at = time.time()
        connection.execute(sa.update(api_keys).where(api_keys.c.key_id == key.key_id).values(revoked_at=revoked_at))
        return replace(key, revoked_at=revoked_at)

    def _check_name_is_free(self, connection: sa.Connection, name: str) -> None:
        if self._find_valid(connection, name) is not None:
            raise InvalidOption(f"a valid key named {name!r} already exists; rotate it, or revoke it first")

    @staticmethod
    def _find_valid(connection: sa.Connection, name: str) -> ApiKey | None:
        rows = connection.execute(sa.select(api_keys).where(api_keys.c.name == name))
        return next((key for key in map(_from_row, rows) if key.is_valid()), None)


def _from_row(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    values = dict(row._mapping)
    scopes = tuple(Scope(scope) for scope in str(values.pop("scopes")).split())
    limits = KeyLimits(**{name: values.pop(name) for name in LIMIT_COLUMNS})
    return ApiKey(scopes=scopes, limits=limits, **values)


def _to_row(key: ApiKey) -> dict[str, object]:
    names = [column.name for column in api_keys.columns if column.name not in LIMIT_COLUMNS]
    return {**{name: getattr(key, name) for name in names}, "scopes": " ".join(key.scopes), **asdict(key.limits)}
