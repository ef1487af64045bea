"""Stored videos on each kind of database."""

import pytest

from serve.store.database import Database
from serve.videos.store import VideoStore


@pytest.fixture
def store(database: Database) -> VideoStore:
    """A store with room for a megabyte."""
    return VideoStore(database, max_bytes=10**6)
