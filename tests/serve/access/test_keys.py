"""API keys: how they are written, stored and compared; the commands that manage them; both databases."""

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve.access.key_store import KeyStore
from serve.access.keys import new_key, parse_lifetime, split_key
from serve.cli.main import app
from serve.errors import InvalidOption, UnknownKey
from serve.scopes import Scope, satisfies
from serve.store.database import Database, sqlite_url


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    url = sqlite_url(tmp_path / "keys.db") if request.param == "sqlite" else request.getfixturevalue("postgres")
    database = Database(url)
    database.migrate()
    yield KeyStore(database)
    database.close()


def test_a_key_is_created_found_rotated_and_revoked(store: KeyStore) -> None:
    key, text = store.create("camera-1", [Scope.INFER], lifetime_seconds=60)
    parts = split_key(text)
    assert parts is not None and parts[0] == key.key_id
    found = store.find(key.key_id)
    assert found == key and found.matches(parts[1]) and not found.matches(parts[1][::-1])
    assert store.has_valid()
    with pytest.raises(InvalidOption, match="valid key named 'camera-1'"):
        store.create("camera-1", [Scope.READ], lifetime_seconds=None)
    second, other = store.rotate("camera-1", lifetime_seconds=None)
    assert second.scopes == key.scopes and second.expires_at is None and other != text
    old = store.find(key.key_id)
    assert old is not None and not old.is_valid()
    store.revoke("camera-1")
    assert not store.has_valid() and len(store.all()) == 2
    for change in (lambda: store.revoke("camera-1"), lambda: store.rotate("camera-1", lifetime_seconds=None)):
        with pytest.raises(UnknownKey):
            change()
    store.create("camera-1", [Scope.ADMIN], lifetime_seconds=None)  # the name is free again
    store.record_use(key.key_id, 12.5)
    assert [item.last_used_at for item in store.all()] == [12.5, None, None]


def test_an_expired_key_is_invalid() -> None:
    key, _ = new_key("short", (Scope.READ,), lifetime_seconds=10)
    assert key.is_valid() and not key.is_valid(now=time.time() + 11)
    assert not replace(key, revoked_at=time.time()).is_valid()


@pytest.mark.parametrize(
    "text", ["", "as_", "as_0123456789ab_", "as_0123456789AB_" + "a" * 43, "x" * 10_000, "as_" + "\x00"]
)
def test_other_texts_are_no_keys(text: str) -> None:
    assert split_key(text) is None


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1w", "1.5d", "999999d"])
def test_other_texts_are_no_lifetimes(text: str) -> None:
    with pytest.raises(ValueError, match="lifetime"):
        parse_lifetime(text)


def test_scopes_imply_reading_and_admin_implies_all() -> None:
    assert all(satisfies([scope], Scope.READ) for scope in Scope)
    assert all(satisfies([Scope.ADMIN], scope) for scope in Scope)
    assert not satisfies([Scope.INFER], Scope.EDIT) and not satisfies([Scope.EDIT], Scope.INFER)
    assert satisfies([Scope.INFER, Scope.EDIT], Scope.EDIT) and not satisfies([], Scope.READ)


def keys(folder: Path, *words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["keys", *words], env={"SERVE_DATA_DIR": str(folder)})
    return result.exit_code, result.stdout, result.stderr


def test_the_commands_manage_keys_and_store_no_secret(tmp_path: Path) -> None:
    status, text, said = keys(tmp_path, "create", "ci", "--scope", "edit", "--scope", "infer", "--expires", "90d")
    assert status == 0 and split_key(text.strip()) is not None and "shown only once" in said
    status, listed, _ = keys(tmp_path, "list", "--json")
    (row,) = map(json.loads, listed.splitlines())
    assert (row["name"], row["scopes"], row["state"], row["last_used_at"]) == ("ci", ["edit", "infer"], "valid", None)
    status, rotated, _ = keys(tmp_path, "rotate", "ci")
    assert status == 0 and rotated != text
    assert keys(tmp_path, "revoke", "ci")[:2] == (0, "ci is revoked\n")
    lines = keys(tmp_path, "list")[1].splitlines()
    assert len(lines) == 2 and all(line.startswith("ci  revoked") for line in lines)
    with sqlite3.connect(tmp_path / "actserve.db") as database:
        dump = "\n".join(database.iterdump())
    for key in (text, rotated):
        parts = split_key(key.strip())
        assert parts is not None and parts[0] in dump and parts[1] not in dump


@pytest.mark.parametrize(
    "words",
    [
        ("create", "ci"),
        ("create", "a b", "--scope", "read"),
        ("create", "x" * 65, "--scope", "read"),
        ("create", "ci", "--scope", "root"),
        ("create", "ci", "--scope", "read", "--expires", "soon"),
        ("revoke", "nobody"),
        ("rotate", "nobody"),
    ],
)
def test_wrong_commands_change_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    assert keys(tmp_path, *words)[0] != 0
    assert keys(tmp_path, "list")[1] == ""
