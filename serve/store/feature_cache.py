"""Cache of features on disk, by a key of the input (a prompt, a clip), so that a restart encodes nothing again.

There is one SQLite file for each graph and runtime. It is only a cache: a row with a wrong checksum is ignored, a
corrupt file is recreated, and a locked file or a full disk costs time but does not fail a request.
"""

import logging
import sqlite3
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from serve.arrays import Float32Array

logger = logging.getLogger(__name__)

AT_ONCE = 500  # keys per query; SQLite limits the number of parameters
TABLE = "create table if not exists kept (key text primary key, features blob not null, crc integer not null)"


class FeatureCache:
    """Features [D] by key in a SQLite file; safe for several threads and processes."""

    def __init__(self, path: Path, *, width: int, max_bytes: int) -> None:
        self._path = path
        self._width = width  # D
        self._max_rows = max(1, max_bytes // (4 * width))
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def read(self, keys: Sequence[str]) -> dict[str, Float32Array]:
        """Return the rows that exist and are intact, by key."""
        found: dict[str, Float32Array] = {}
        with self._lock:
            try:
                connection = self._opened()
                for start in range(0, len(keys), AT_ONCE):
                    found.update(self._read_some(connection, keys[start : start + AT_ONCE]))
            except sqlite3.Error as error:
                self._handle_database_error(error)
        return found

    def write(self, rows: Mapping[str, Float32Array]) -> None:
        """Add rows; the oldest are evicted when the file is full."""
        values = [(key, data := row.astype("<f4").tobytes(), _checksum(key, data)) for key, row in rows.items()]
        with self._lock:
            try:
                with self._opened() as connection:
                    connection.executemany("insert or replace into kept values (?, ?, ?)", values)
                    connection.execute(
                        "delete from kept where rowid <= (select max(rowid) from kept) - ?", (self._max_rows,)
                    )
            except sqlite3.Error as error:
                self._handle_database_error(error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._drop_connection()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=2, check_same_thread=False)  # guarded by the lock
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = normal")  # a lost row is encoded again
            self._connection.execute(TABLE)
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read_some(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Float32Array]:
        marks = ",".join("?" * len(keys))
        query = f"select key, features, crc from kept where key in ({marks})"  # noqa: S608 - placeholders only
        found = {}
        for key, data, crc in connection.execute(query, keys):
            if isinstance(data, bytes) and len(data) == 4 * self._width and crc == _checksum(key, data):
                found[key] = np.frombuffer(data, "<f4").astype(np.float32)
            else:
                logger.warning("%s: a cached row is corrupt and will be encoded again", self._path.name)
        return found

    def _handle_database_error(self, error: sqlite3.Error) -> None:
        """Continue without the cache; remove a file that is not a database."""
        self._drop_connection()
        if isinstance(error, sqlite3.OperationalError):  # locked, full, not permitted
            logger.warning("the feature cache cannot be used now: %s", error)
            return
        logger.warning("%s is corrupt (%s) and will be recreated", self._path, error)
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _checksum(key: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(key.encode()))
