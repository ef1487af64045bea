"""Cache features on disk, keyed by a prompt or by the hash of a clip, so that they survive restarts.

There is one SQLite file per graph and runtime. A row with a wrong checksum is ignored and a corrupt file is recreated.
If the file is locked or the disk is full, features are computed without the cache.
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

KEYS_PER_QUERY = 500  # SQLite limits the number of parameters
TABLE = "create table if not exists kept (key text primary key, features blob not null, crc integer not null)"


class FeatureCache:
    """Features [D] by key in a SQLite file; thread-safe, and several processes may share the file."""

    def __init__(self, path: Path, *, width: int, max_bytes: int) -> None:
        self._path = path
        self._width = width  # D
        self._max_rows = max(1, max_bytes // (4 * width))
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def read(self, keys: Sequence[str]) -> dict[str, Float32Array]:
        """Return the features that are cached and intact, by key."""
        features: dict[str, Float32Array] = {}
        with self._lock:
            try:
                connection = self._connect()
                for start in range(0, len(keys), KEYS_PER_QUERY):
                    features.update(self._read_batch(connection, keys[start : start + KEYS_PER_QUERY]))
            except sqlite3.Error as error:
                self._handle_database_error(error)
        return features

    def write(self, rows: Mapping[str, Float32Array]) -> None:
        """Add features by key; the oldest are evicted if the cache is full."""
        values = [(key, data := row.astype("<f4").tobytes(), _checksum(key, data)) for key, row in rows.items()]
        with self._lock:
            try:
                with self._connect() as connection:
                    connection.executemany("insert or replace into kept values (?, ?, ?)", values)
                    connection.execute(
                        "delete from kept where rowid <= (select max(rowid) from kept) - ?", (self._max_rows,)
                    )
            except sqlite3.Error as error:
                self._handle_database_error(error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._disconnect()

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=2, check_same_thread=False)  # guarded by the lock
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = normal")  # a row lost in a power failure is encoded again
            self._connection.execute(TABLE)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read_batch(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Float32Array]:
        placeholders = ",".join("?" * len(keys))
        query = f"select key, features, crc from kept where key in ({placeholders})"  # noqa: S608 - placeholders only
        features = {}
        for key, data, crc in connection.execute(query, keys):
            if isinstance(data, bytes) and len(data) == 4 * self._width and crc == _checksum(key, data):
                features[key] = np.frombuffer(data, "<f4").astype(np.float32)
            else:
                logger.warning("%s: a cached row is corrupt and will be encoded again", self._path.name)
        return features

    def _handle_database_error(self, error: sqlite3.Error) -> None:
        """Disconnect and log the error; delete the file if it is corrupt."""
        self._disconnect()
        if isinstance(error, sqlite3.OperationalError):  # locked, full, not permitted
            logger.warning("the feature cache %s is unavailable: %s", self._path, error)
            return
        logger.warning("%s is corrupt (%s) and will be recreated", self._path, error)
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _checksum(key: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(key.encode()))
