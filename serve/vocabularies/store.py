"""Store versions of vocabularies in the database; every change is one transaction.

The version counter of a deleted name is kept, so that no version number is used twice. Each example clip is stored once
and deleted with the last version that uses it.
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
from serve.vocabularies.preconditions import already_exists_error, require_version
from serve.vocabularies.stored import read_vocabulary
from serve.vocabularies.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

CHANNEL = "actserve_vocabularies"  # of PostgreSQL's LISTEN and NOTIFY


@dataclass(frozen=True, kw_only=True)
class VersionInfo:
    """Metadata of one version."""

    version: int
    num_labels: int
    author: str
    note: str
    created_at: str


class VocabularyStore:
    """Reads and writes versions; all methods block, so call them in a worker thread."""

    def __init__(self, database: Database, *, keep_versions: int) -> None:
        self._database = database
        self._keep_versions = keep_versions

    def latest_versions(self) -> dict[str, int]:
        """Return the newest version of every vocabulary by name, without deleted ones."""
        query = sa.select(vocabularies.c.name, vocabularies.c.latest).where(~vocabularies.c.is_deleted)
        with self._database.reading() as connection:
            return {row.name: row.latest for row in connection.execute(query)}

    def load(self, name: str, version: int | None = None) -> Vocabulary:
        """Load a version; None loads the newest one.

        Raises:
            UnknownVocabulary: the name or the version does not exist, or the version was removed as too old.
        """
        with self._database.reading() as connection:
            latest = _read_latest(connection, name)
            number = latest if version is None else version
            query = _select_versions(name).where(vocabulary_versions.c.version == number)
            row = connection.execute(query).one_or_none()
        if row is None:
            raise UnknownVocabulary(
                f"version {version} of vocabulary {name!r} does not exist or is no longer stored; the newest version "
                f"is {latest}",
                latest=latest,
            )
        return read_vocabulary(row)

    def versions(self, name: str, *, before: int | None, limit: int) -> list[VersionInfo]:
        """Return versions below `before`, newest first.

        Raises:
            UnknownVocabulary: there is no such name.
        """
        columns = [vocabulary_versions.c[key] for key in VersionInfo.__dataclass_fields__]
        query = sa.select(*columns).where(vocabulary_versions.c.name == name)
        if before is not None:
            query = query.where(vocabulary_versions.c.version < before)
        query = query.order_by(vocabulary_versions.c.version.desc()).limit(limit)
        with self._database.reading() as connection:
            _read_latest(connection, name)
            return [VersionInfo(**row._mapping) for row in connection.execute(query)]

    def clip(self, sha256: str) -> bytes:
        """Return the bytes of an example clip.

        Raises:
            UnknownExample: no stored version uses this clip.
        """
        with self._database.reading() as connection:
            body: bytes | None = connection.execute(sa.select(clips.c.body).where(clips.c.sha256 == sha256)).scalar()
        if body is None:
            raise UnknownExample(f"no stored version uses a clip with the SHA-256 {sha256}")
        return body

    def commit(
        self, vocabulary: Vocabulary, *, expected: int | None, new_clips: Mapping[str, Path] | None = None
    ) -> Vocabulary:
        """Store a vocabulary as the next version of its name; return it with its version number and time.

        `expected` is the version it is based on, None for a new name. `new_clips` maps SHA-256 to file, for examples
        whose clips may not be stored yet.

        Raises:
            StaleVersion, UnknownVocabulary: see `require_version`.
        """
        with self._database.writing() as connection:
            row = connection.execute(
                sa.select(vocabularies).where(vocabularies.c.name == vocabulary.name).with_for_update()
            ).one_or_none()
            require_version(vocabulary.name, latest=_latest_in_row(row), expected=expected)
            stored = replace(
                vocabulary,
                version=1 if row is None else row.latest + 1,
                created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                unreadable=(),  # the replacement values are stored
            )
            self._write_latest(connection, stored, is_new=row is None)
            connection.execute(vocabulary_versions.insert().values(**_to_row(stored)))
            for sha256, path in (new_clips or {}).items():
                self._write_clip(connection, sha256, path.read_bytes())
            self._link_clips(connection, stored)
            has_deleted = self._delete_old_versions(connection, stored)
            self._notify(connection, stored.name)
        if has_deleted:
            self._delete_unused_clips()
        return stored

    def delete(self, name: str, *, expected: int) -> None:
        """Delete a vocabulary with all its versions.

        Raises:
            StaleVersion, UnknownVocabulary: see `require_version`.
        """
        with self._database.writing() as connection:
            row = connection.execute(
                sa.select(vocabularies).where(vocabularies.c.name == name).with_for_update()
            ).one_or_none()
            require_version(name, latest=_latest_in_row(row), expected=expected)
            connection.execute(vocabulary_versions.delete().where(vocabulary_versions.c.name == name))
            connection.execute(vocabularies.update().where(vocabularies.c.name == name).values(is_deleted=True))
            self._notify(connection, name)
        self._delete_unused_clips()

    def _write_latest(self, connection: sa.Connection, stored: Vocabulary, *, is_new: bool) -> None:
        values = {"name": stored.name, "latest": stored.version, "is_deleted": False}
        if not is_new:
            connection.execute(vocabularies.update().where(vocabularies.c.name == stored.name).values(**values))
            return
        try:
            connection.execute(vocabularies.insert().values(**values))
        except sa.exc.IntegrityError as error:  # another server process has inserted the name meanwhile
            raise already_exists_error(stored.name) from error

    def _write_clip(self, connection: sa.Connection, sha256: str, body: bytes) -> None:
        """Insert a clip; an existing row is updated, which locks it against deletion until the commit."""
        dialect = postgresql if self._database.is_postgres else sqlite
        insert = dialect.insert(clips).values(sha256=sha256, num_bytes=len(body), body=body)
        connection.execute(insert.on_conflict_do_update(index_elements=["sha256"], set_={"num_bytes": len(body)}))

    def _link_clips(self, connection: sa.Connection, stored: Vocabulary) -> None:
        used = sorted({example.sha256 for _, example in stored.examples})
        rows = [{"name": stored.name, "version": stored.version, "sha256": sha256} for sha256 in used]
        if rows:
            connection.execute(vocabulary_clips.insert(), rows)

    def _delete_old_versions(self, connection: sa.Connection, stored: Vocabulary) -> bool:
        """Delete versions older than the newest `keep_versions`; return whether any were deleted."""
        deleted = connection.execute(
            vocabulary_versions.delete().where(
                vocabulary_versions.c.name == stored.name,
                vocabulary_versions.c.version <= stored.version - self._keep_versions,
            )
        )
        return deleted.rowcount > 0

    def _delete_unused_clips(self) -> None:
        """Delete clips that no version uses; if a concurrent commit starts to use one, nothing is deleted."""
        unused = ~sa.exists().where(vocabulary_clips.c.sha256 == clips.c.sha256)
        try:
            with self._database.writing() as connection:
                connection.execute(clips.delete().where(unused))
        except sa.exc.IntegrityError:
            logger.info("a clip came into use during cleanup; unused clips are deleted after the next change")

    def _notify(self, connection: sa.Connection, name: str) -> None:
        if self._database.is_postgres:  # delivered to the other server processes when the transaction commits
            connection.execute(sa.text("select pg_notify(:channel, :name)"), {"channel": CHANNEL, "name": name})


def _latest_in_row(row: Any) -> int | None:
    """Return the newest version from a row of `vocabularies`; None if there is no row or the name is deleted."""
    return None if row is None or row.is_deleted else row.latest


def _read_latest(connection: sa.Connection, name: str) -> int:
    """Return the newest version of a name; raise UnknownVocabulary if there is none."""
    query = sa.select(vocabularies.c.latest).where(vocabularies.c.name == name, ~vocabularies.c.is_deleted)
    latest: int | None = connection.execute(query).scalar()
    if latest is None:
        raise UnknownVocabulary(f"there is no vocabulary {name!r}")
    return latest


def _select_versions(name: str) -> sa.Select[Any]:
    return sa.select(vocabulary_versions).where(vocabulary_versions.c.name == name)


def _to_row(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "name": vocabulary.name,
        "version": vocabulary.version,
        "author": vocabulary.author,
        "note": vocabulary.note,
        "created_at": vocabulary.created_at,
        "num_labels": len(vocabulary.labels),
        "document": json.dumps(vocabulary.content(), ensure_ascii=False, allow_nan=False, separators=(",", ":")),
    }
