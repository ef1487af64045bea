"""A store of vocabularies on each kind of database."""

import pytest

from serve.store.database import Database
from serve.vocabularies.store import VocabularyStore


@pytest.fixture
def store(database: Database) -> VocabularyStore:
    """A store that keeps five versions."""
    return VocabularyStore(database, keep_versions=5)
