"""Limits of API keys: rates, concurrent requests and quotas, shared by the servers of one database."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest
from typer.testing import CliRunner

from serve.access import usage as usage_module
from serve.access.key_store import KeyStore
from serve.access.keys import ApiKey, split_key
from serve.access.limits import DAY_SECONDS, NO_LIMITS, KeyLimits, parse_rate
from serve.access.usage import REQUEST_SECONDS, UsageStore
from serve.cli.main import app
from serve.errors import QuotaExceeded
from serve.scopes import Scope
from serve.store.database import Database, sqlite_url
from tests.running_server import running_server
from tests.waiting import eventually

OLD = Path(__file__).resolve().parents[2] / "golden" / "store" / "before_key_limits.sql"
OLD_KEY = "as_bef6cd23b43c_0q7pBcYQWzJYZ-NoJaAF9Mu-6CATv5nA98trJ13A1Nw"  # of the key camera-1 in it
NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2


@pytest.fixture(params=["sqlite", "postgres"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Database]]:
    """Two connections to one database, as of two servers."""
    url = sqlite_url(tmp_path / "keys.db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = [Database(url), Database(url)]
    opened[0].migrate()
    yield opened
    for database in opened:
        database.close()


def limited_key(databases: list[Database], **limits: int) -> ApiKey:
    key, _ = KeyStore(databases[0]).create("k", [Scope.INFER], lifetime_seconds=None, limits=KeyLimits(**limits))
    return key


class Clock:
    """A clock for the use of keys."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock(NOON)
    with patch.object(usage_module, "time", clock):
        yield clock


def is_accepted(store: UsageStore, key: ApiKey) -> bool:
    try:
        store.start(key).raise_if_rejected()
    except QuotaExceeded:
        return False
    return True


def test_a_rate_allows_a_burst_and_then_an_even_flow(databases: list[Database], clock: Clock) -> None:
    key = limited_key(databases, rate_requests=3, rate_seconds=60)
    stores = [UsageStore(database) for database in databases]
    assert [is_accepted(stores[number % 2], key) for number in range(5)] == [True, True, True, False, False]
    with pytest.raises(QuotaExceeded, match="3 requests in 60 s; try again in 20 s") as rejection:
        stores[0].start(key).raise_if_rejected()
    assert rejection.value.details["retry_after_seconds"] == 20
    clock.now += 20
    assert [is_accepted(stores[1], key) for _ in range(2)] == [True, False]
    clock.now += 1000
    assert [is_accepted(stores[0], key) for _ in range(4)] == [True, True, True, False]


def test_a_daily_quota_begins_again_at_midnight(databases: list[Database], clock: Clock) -> None:
    key = limited_key(databases, daily_quota=2)
    stores = [UsageStore(database) for database in databases]
    assert [is_accepted(stores[number % 2], key) for number in range(3)] == [True, True, False]
    (state,) = stores[0].start(key).states
    assert (state.remaining, state.reset_seconds, state.retry_seconds) == (0, DAY_SECONDS // 2, DAY_SECONDS / 2)
    clock.now += DAY_SECONDS / 2
    assert is_accepted(stores[0], key)


def test_concurrent_requests_are_limited_until_they_end_or_expire(databases: list[Database], clock: Clock) -> None:
    key = limited_key(databases, max_concurrency=2)
    first, second = [UsageStore(database) for database in databases]
    uses = [first.start(key), second.start(key)]
    assert not is_accepted(first, key)
    assert uses[0].request_id is not None
    second.end(uses[0].request_id)
    assert is_accepted(first, key) and not is_accepted(second, key)
    clock.now += REQUEST_SECONDS + 1
    assert is_accepted(second, key), "the requests of a server that was killed expire"


def test_simultaneous_requests_of_two_servers_do_not_pass_a_limit(databases: list[Database]) -> None:
    key = limited_key(databases, daily_quota=10)
    stores = [UsageStore(database) for database in databases]
    with ThreadPoolExecutor(8) as executor:
        accepted = list(executor.map(lambda number: is_accepted(stores[number % 2], key), range(40)))
    assert sum(accepted) in (10, 20)  # 20 if midnight passed meanwhile


def test_rotation_keeps_the_limits(databases: list[Database]) -> None:
    key = limited_key(databases, daily_quota=10, max_concurrency=3)
    rotated, _ = KeyStore(databases[1]).rotate("k", lifetime_seconds=None)
    assert rotated.limits == key.limits != NO_LIMITS


def test_keys_of_the_previous_release_have_no_limits(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.executescript(OLD.read_text(encoding="utf-8"))
    connection.close()
    database = Database(sqlite_url(tmp_path / "old.db"))
    database.migrate()
    store = KeyStore(database)
    parts = split_key(OLD_KEY)
    assert parts is not None
    key = store.find(parts[0])
    assert key is not None and key.matches(parts[1]) and key.limits == NO_LIMITS and key.last_used_at == 1764150000.5
    assert [item.is_valid() for item in store.all()] == [True, False]
    limited = replace(key, limits=KeyLimits(daily_quota=1))
    assert [is_accepted(UsageStore(database), limited) for _ in range(2)] == [True, False]
    database.close()


@pytest.mark.parametrize("text", ["", "60", "0/m", "-1/m", "60/d", "1.5/s", "60 /m", "99999999/s"])
def test_other_texts_are_no_rates(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


def test_a_server_answers_429_with_the_limits_of_the_key(tmp_path: Path) -> None:
    words = ["keys", "create", "camera", "--scope", "read", "--rate", "2/h", "--daily", "100", "--concurrency", "5"]
    created = CliRunner().invoke(app, words, env={"SERVE_DATA_DIR": str(tmp_path / "data")})
    assert created.exit_code == 0
    listed = CliRunner().invoke(app, ["keys", "list"], env={"SERVE_DATA_DIR": str(tmp_path / "data")})
    assert "at most 2 requests in 3600 s, 5 concurrent, 100 daily" in listed.stdout
    headers = {"X-API-Key": created.stdout.strip()}
    with running_server(tmp_path) as server, httpx.Client(base_url=server.address, headers=headers) as client:
        responses = [client.get("/v1/limits") for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert responses[0].headers["ratelimit-policy"] == (
            '"rate";q=2;w=3600, "daily";q=100;w=86400, "concurrency";q=5;qu="concurrent-requests"'
        )
        assert responses[0].headers["ratelimit"].startswith('"rate";r=1;t=1800, "daily";r=99;t=')
        problem = responses[2].json()
        assert problem["type"] == "/problems/quota-exceeded" and problem["quota"] == "rate"
        assert 1700 < int(responses[2].headers["retry-after"]) <= 1800
        assert client.get("/readyz", headers={}).status_code == 200
        with sqlite3.connect(tmp_path / "data" / "actserve.db") as connection:
            assert eventually(lambda: connection.execute("select count(*) from key_requests").fetchone() == (0,))
        connection.close()
