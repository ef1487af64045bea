"""Versions of vocabularies in the database; every change is one transaction.

A deleted name keeps its counter, so that a version number is never used twice. Each example clip is stored once and
deleted with the last version that uses it.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from serve.errors import UnknownExample, UnknownVocabulary
from serve.store.database import Database
from serve.store.schema import clips, vocabularies, vocabulary_clips, vocabulary_versions
from serve.vocabularies.preconditions import already_exists, require_version
from serve.vocabularies.stored import vocabulary_of
from serve.vocabularies.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

CHANNEL = "actserve_vocabularies"  # for LISTEN and NOTIFY of PostgreSQL


@dataclass(frozen=True, kw_only=True)
class VersionFacts:
    """Facts of one version, without its labels."""

    version: int
    num_labels: int
    author: str
    note: str
    created_at: str


class VocabularyStore:
    """Reads and writes versions; every method blocks and belongs in a worker thread."""

    def __init__(self, database: Database, *, keep_versions: int) -> None:
        self._database = database
        self._keep_versions = keep_versions

    def latest_versions(self) -> dict[str, int]:
        """Return name -> newest version of every vocabulary that is not deleted."""
        query = sa.select(vocabularies.c.name, vocabularies.c.latest).where(~vocabularies.c.is_deleted)
        with self._database.reading() as connection:
            return {row.name: row.latest for row in connection.execute(query)}

    def load(self, name: str, version: int | None = None) -> Vocabulary:
        """Load a version; by default the newest one.

        Raises:
            UnknownVocabulary: there is no such name, or the version does not exist or is no longer kept.
        """
        with self._database.reading() as connection:
            latest = _latest(connection, name)
            wanted = latest if version is None else version
            row = connection.execute(_versions_of(name).where(vocabulary_versions.c.version == wanted)).one_or_none()
        if row is None:
            raise UnknownVocabulary(
                f"vocabulary {name!r} has no version {version}, or no longer keeps it; the newest is {latest}",
                latest=latest,
            )
        return vocabulary_of(row)

    def versions(self, name: str, *, before: int | None, limit: int) -> list[VersionFacts]:
        """Return versions below `before`, newest first.

        Raises:
            UnknownVocabulary: there is no such name.
        """
        columns = [vocabulary_versions.c[key] for key in VersionFacts.__dataclass_fields__]
        query = sa.select(*columns).where(vocabulary_versions.c.name == name)
        if before is not None:
            query = query.where(vocabulary_versions.c.version < before)
        query = query.order_by(vocabulary_versions.c.version.desc()).limit(limit)
        with self._database.reading() as connection:
            _latest(connection, name)
            return [VersionFacts(**row._mapping) for row in connection.execute(query)]

    def clip(self, sha256: str) -> bytes:
        """Return the bytes of an example clip.

        Raises:
            UnknownExample: no kept version uses such a clip.
        """
        with self._database.reading() as connection:
            body: bytes | None = connection.execute(sa.select(clips.c.body).where(clips.c.sha256 == sha256)).scalar()
        if body is None:
            raise UnknownExample(f"the store holds no clip {sha256}")
        return body

    def commit(
        self, vocabulary: Vocabulary, *, expected: int | None, new_clips: Mapping[str, Path] | None = None
    ) -> Vocabulary:
        """Store the next version of a name and return it with its version and time.

        `expected` is the version it is based on, None for a new name. `new_clips` maps the hash of an example to its
        file, for examples that may not be in the store yet.

        Raises:
            StaleVersion, UnknownVocabulary: see `require_version`.
        """
        with self._database.writing() as connection:
            found = connection.execute(
                sa.select(vocabularies).where(vocabularies.c.name == vocabulary.name).with_for_update()
            ).one_or_none()
            require_version(vocabulary.name, latest=_latest_of(found), expected=expected)
            stored = replace(
                vocabulary,
                version=1 if found is None else found.latest + 1,
                created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                unreadable=(),  # their replacements are stored now
            )
            self._put_head(connection, stored, is_new=found is None)
            connection.execute(vocabulary_versions.insert().values(**_row(stored)))
            for sha256, path in (new_clips or {}).items():
                self._put_clip(connection, sha256, path.read_bytes())
            self._use_clips(connection, stored)
            has_deleted = self._delete_old(connection, stored)
            self._notify(connection, stored.name)
        if has_deleted:
            self._collect_clips()
        return stored

    def delete(self, name: str, *, expected: int) -> None:
        """Delete a name and all its versions.

        Raises:
            StaleVersion, UnknownVocabulary: see `require_version`.
        """
        with self._database.writing() as connection:
            found = connection.execute(
                sa.select(vocabularies).where(vocabularies.c.name == name).with_for_update()
            ).one_or_none()
            require_version(name, latest=_latest_of(found), expected=expected)
            connection.execute(vocabulary_versions.delete().where(vocabulary_versions.c.name == name))
            connection.execute(vocabularies.update().where(vocabularies.c.name == name).values(is_deleted=True))
            self._notify(connection, name)
        self._collect_clips()

    def _put_head(self, connection: sa.Connection, stored: Vocabulary, *, is_new: bool) -> None:
        values = {"name": stored.name, "latest": stored.version, "is_deleted": False}
        if not is_new:
            connection.execute(vocabularies.update().where(vocabularies.c.name == stored.name).values(**values))
            return
        try:
            connection.execute(vocabularies.insert().values(**values))
        except sa.exc.IntegrityError as error:  # another gateway was first
            raise already_exists(stored.name) from error

    def _put_clip(self, connection: sa.Connection, sha256: str, body: bytes) -> None:
        """Insert a clip, or update its row if it exists, which locks it against `_collect_clips` until the commit."""
        dialect = postgresql if self._database.is_postgres else sqlite
        insert = dialect.insert(clips).values(sha256=sha256, num_bytes=len(body), body=body)
        connection.execute(insert.on_conflict_do_update(index_elements=["sha256"], set_={"num_bytes": len(body)}))

    def _use_clips(self, connection: sa.Connection, stored: Vocabulary) -> None:
        used = sorted({example.sha256 for _, example in stored.examples})
        rows = [{"name": stored.name, "version": stored.version, "sha256": sha256} for sha256 in used]
        if rows:
            connection.execute(vocabulary_clips.insert(), rows)

    def _delete_old(self, connection: sa.Connection, stored: Vocabulary) -> bool:
        """Delete versions beyond the number that is kept; return whether there were any."""
        deleted = connection.execute(
            vocabulary_versions.delete().where(
                vocabulary_versions.c.name == stored.name,
                vocabulary_versions.c.version <= stored.version - self._keep_versions,
            )
        )
        return deleted.rowcount > 0

    def _collect_clips(self) -> None:
        """Delete clips that no version uses; if one comes into use meanwhile, leave all of them to the next change."""
        unused = ~sa.exists().where(vocabulary_clips.c.sha256 == clips.c.sha256)
        try:
            with self._database.writing() as connection:
                connection.execute(clips.delete().where(unused))
        except sa.exc.IntegrityError:
            logger.info("unused clips will be deleted with the next change")

    def _notify(self, connection: sa.Connection, name: str) -> None:
        if self._database.is_postgres:  # sent to the other gateways when the transaction commits
            connection.execute(sa.text("select pg_notify(:channel, :name)"), {"channel": CHANNEL, "name": name})


def _latest_of(row: Any) -> int | None:
    """Return the newest version in a row of the names; None for a name that does not exist or was deleted."""
    return None if row is None or row.is_deleted else row.latest


def _latest(connection: sa.Connection, name: str) -> int:
    query = sa.select(vocabularies.c.latest).where(vocabularies.c.name == name, ~vocabularies.c.is_deleted)
    latest: int | None = connection.execute(query).scalar()
    if latest is None:
        raise UnknownVocabulary(f"there is no vocabulary {name!r}")
    return latest


def _versions_of(name: str) -> sa.Select[Any]:
    return sa.select(vocabulary_versions).where(vocabulary_versions.c.name == name)


def _row(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "name": vocabulary.name,
        "version": vocabulary.version,
        "author": vocabulary.author,
        "note": vocabulary.note,
        "created_at": vocabulary.created_at,
        "num_labels": len(vocabulary.labels),
        "document": json.dumps(vocabulary.content(), ensure_ascii=False, allow_nan=False, separators=(",", ":")),
    }
