"""The store of vocabularies, on databases of both kinds."""

import pytest

from serve.store.database import Database
from serve.vocabularies.store import VocabularyStore


@pytest.fixture
def store(database: Database) -> VocabularyStore:
    """A store that keeps five versions."""
    return VocabularyStore(database, keep_versions=5)
