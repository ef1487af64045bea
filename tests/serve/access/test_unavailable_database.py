"""Keys while the database is unavailable: those that were read before are accepted for a while, others are not."""

import shutil
from pathlib import Path

import pytest

from serve.access import authorizer
from serve.access.authorizer import Authorizer
from serve.access.key_store import KeyStore
from serve.access.limits import KeyLimits
from serve.access.usage import UsageStore
from serve.data_folder import open_database
from serve.errors import StoreUnavailable, Unauthenticated
from serve.scopes import Scope
from serve.settings import ServeSettings
from serve.store.database import Database

LIMITS = KeyLimits(max_concurrency=5)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    opened = open_database(ServeSettings(data_dir=tmp_path / "data"))
    opened.migrate()
    return opened


@pytest.fixture
def checked(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authorizer:
    """An authorizer that reads the database for each request."""
    monkeypatch.setattr(authorizer, "KEY_CACHE_SECONDS", 0.0)
    settings = ServeSettings(data_dir=tmp_path / "data")
    return Authorizer(KeyStore(database), UsageStore(database), settings)


def lose(database: Database, tmp_path: Path) -> None:
    database.close()
    shutil.rmtree(tmp_path / "data")


async def test_known_keys_are_accepted_and_unknown_ones_are_not(
    database: Database, checked: Authorizer, tmp_path: Path
) -> None:
    store = KeyStore(database)
    known, unused, limited = (
        store.create(name, [Scope.INFER], lifetime_seconds=None, limits=limits)[1]
        for name, limits in (("known", KeyLimits()), ("unused", KeyLimits()), ("limited", LIMITS))
    )
    for key in (known, limited):
        assert (await checked.authorize((f"Bearer {key}", None), Scope.INFER)).name in ("known", "limited")
    lose(database, tmp_path)
    assert (await checked.authorize((f"Bearer {known}", None), Scope.INFER)).name == "known"
    with pytest.raises(Unauthenticated):
        await checked.authorize((f"Bearer {known[:-1]}{'a' if known[-1] != 'a' else 'b'}", None), Scope.INFER)
    for key in (unused, limited):
        with pytest.raises(StoreUnavailable):
            await checked.authorize((f"Bearer {key}", None), Scope.INFER)


async def test_no_key_is_needed_where_none_was_needed_before(
    database: Database, checked: Authorizer, tmp_path: Path
) -> None:
    assert (await checked.authorize((None, None), Scope.INFER)).key_id is None
    lose(database, tmp_path)
    assert (await checked.authorize((None, None), Scope.INFER)).key_id is None


async def test_what_was_never_read_is_not_guessed(database: Database, checked: Authorizer, tmp_path: Path) -> None:
    lose(database, tmp_path)
    with pytest.raises(StoreUnavailable):
        await checked.authorize((None, None), Scope.INFER)
