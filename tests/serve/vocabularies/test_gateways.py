"""Two gateways on one PostgreSQL: changes of one are used by the other, and an outage leaves both answering."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from tests.running_server import running_server
from tests.waiting import PATIENCE_SECONDS, eventually

LISTENED = 40.0  # seconds, fewer than those between two polls: what shows by then came by LISTEN
NEW = {"If-None-Match": "*"}
TWO = ["a person in red walking to the left", "a person in red walking to the right"]


def version(http: httpx.Client, name: str, of: str = "version") -> int | None:
    """Version a gateway shows; `of` "current" is the one it answers with."""
    response = http.get(f"/v1/vocabularies/{name}")
    return response.json()[of] if response.status_code == 200 else None


def classify(http: httpx.Client, path: Path, **options: Any) -> httpx.Response:
    with path.open("rb") as stream:
        return http.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})


def test_gateways_share_what_they_know(postgres_url: str, tmp_path: Path, demo_clip: Path) -> None:
    poll = {"SERVE_STORE_URL": postgres_url, "SERVE_VOCABULARIES__POLL_SECONDS": "60"}
    with (
        running_server(tmp_path / "one", **poll) as one,
        running_server(tmp_path / "two", **poll) as two,
        httpx.Client(base_url=one.address, timeout=PATIENCE_SECONDS) as first,
        httpx.Client(base_url=two.address, timeout=PATIENCE_SECONDS) as second,
    ):
        assert eventually(lambda: _listeners(postgres_url) == 2)
        first.put("/v1/vocabularies/pets", json={"labels": TWO}, headers={"If-None-Match": "*"})
        assert eventually(lambda: version(second, "pets") == 1, LISTENED)
        assert eventually(lambda: version(second, "pets", of="current") == 1)  # its prompts are encoded there too
        assert classify(second, demo_clip, vocabulary="pets").json()["results"][0]["label"] == TWO[0]
        _race(first, second)
        first.delete("/v1/vocabularies/pets", headers={"If-Match": "*"})
        assert eventually(lambda: version(second, "pets") is None, LISTENED)
    del poll["SERVE_VOCABULARIES__POLL_SECONDS"]
    with (
        running_server(tmp_path / "one", **poll) as one,
        httpx.Client(base_url=one.address, timeout=PATIENCE_SECONDS) as first,
    ):
        _outage(first, postgres_url, demo_clip)


def test_characters_that_postgresql_cannot_store_are_refused(postgres_url: str, tmp_path: Path) -> None:
    url = "/v1/vocabularies/pets"
    with (
        running_server(tmp_path / "one", SERVE_STORE_URL=postgres_url) as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http,
    ):
        documents: list[dict[str, Any]] = [
            {"labels": ["a\0b"]},
            {"labels": [{"name": "a", "synonyms": ["b\0"]}]},
            {"labels": [{"name": "a", "negatives": ["\0b"]}]},
            {"labels": TWO, "description": "a\0"},
            {"labels": TWO, "note": "a\0"},
            {"labels": TWO, "templates": ["a\0 {}"]},
            {"labels": TWO, "background": ["\0"]},
            {"labels": TWO, "metadata": {"key": ["a\0"]}},
            {"labels": TWO, "metadata": {"k\0": 1}},
            {"labels": TWO, "metadata": {"key": "\ud800"}},
        ]
        for document in documents:
            refused = http.put(url, content=json.dumps(document), headers=NEW | {"Content-Type": "application/json"})
            assert refused.status_code in (400, 422), (document, refused.text)
        for kind, body in (("text/plain", b"a\0b\n"), ("text/csv", b"name\na\0b\n")):
            assert http.put(url, content=body, headers=NEW | {"Content-Type": kind}).status_code in (400, 422)
        assert http.get(url).status_code == 404
        assert http.put(url, json={"labels": TWO}, headers=NEW).status_code == 200
        for change in ({"add": ["a\0"]}, {"metadata": {"a": "\0"}}, {"description": "\0"}):
            assert http.patch(url, json=change, headers={"If-Match": "*"}).status_code in (400, 422), change
        http.patch(url, json={"add": ["x"]}, headers={"If-Match": "*", "X-Author": "a%00"}).raise_for_status()
        for path in ("/v1/vocabularies/a%00", "/v1/vocabularies/pets%00@1", "/v1/vocabularies?page_token=%00"):
            assert http.get(path).status_code in (400, 404, 422), path
        assert (http.get(url).json()["num_labels"], http.get("/readyz").status_code) == (3, 200)


def _race(first: httpx.Client, second: httpx.Client) -> None:
    """Both gateways add ten labels at once, each trying again when it was too late: none is lost."""

    def add(http: httpx.Client, word: str) -> None:
        for number in range(10):
            while True:
                etag = http.get("/v1/vocabularies/pets").headers["etag"]
                change = {"add": [f"{word} {number}"]}
                if http.patch("/v1/vocabularies/pets", json=change, headers={"If-Match": etag}).status_code == 200:
                    break

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, (first, second), ("one", "two")))
    assert eventually(lambda: version(first, "pets") == version(second, "pets") == 21)
    for http in (first, second):
        names = {label["name"] for label in http.get("/v1/vocabularies/pets").json()["labels"]}
        assert names == {*TWO, *(f"{word} {number}" for word in ("one", "two") for number in range(10))}


def _outage(http: httpx.Client, url: str, demo_clip: Path) -> None:
    """The database refuses everybody for a while."""
    http.put("/v1/vocabularies/pets", json={"labels": TWO}, headers={"If-None-Match": "*"})
    assert http.get("/readyz").json()["degraded"] == []
    name = sa.make_url(url).database
    with _admin(url) as connection:
        connection.execute(sa.text(f"alter database {name} allow_connections false"))
        _disconnect_all(connection, name)
    assert eventually(lambda: bool(http.get("/readyz").json()["degraded"]))
    assert http.get("/readyz").status_code == 200
    assert classify(http, demo_clip, vocabulary="pets").json()["results"][0]["label"] == TWO[0]
    refused = http.patch("/v1/vocabularies/pets", json={"add": ["x"]}, headers={"If-Match": "*"})
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/store-unavailable")
    assert "retry-after" in refused.headers
    with _admin(url) as connection:
        connection.execute(sa.text(f"alter database {name} allow_connections true"))
    assert eventually(lambda: http.get("/readyz").json()["degraded"] == [])
    again = http.patch("/v1/vocabularies/pets", json={"add": ["x"]}, headers={"If-Match": "*"})
    assert (again.status_code, again.json()["num_labels"]) == (200, 3)


def _admin(url: str) -> Any:
    address = sa.make_url(url).set(drivername="postgresql+psycopg", database="postgres")
    return sa.create_engine(address, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()


def _disconnect_all(connection: sa.Connection, name: str | None) -> None:
    query = "select pg_terminate_backend(pid) from pg_stat_activity where datname = :name"
    connection.execute(sa.text(query), {"name": name})


def _listeners(url: str) -> int:
    """Connections whose last command was LISTEN."""
    with _admin(url) as connection:
        rows = connection.execute(
            sa.text("select query from pg_stat_activity where datname = :name"), {"name": sa.make_url(url).database}
        )
        return sum(row.query.startswith("LISTEN") for row in rows)


def test_polling_alone_sees_changes_too(tmp_path: Path) -> None:
    """Two servers on one SQLite file, without notifications."""
    shared = {"SERVE_DATA_DIR": str(tmp_path / "data")}
    with (
        running_server(tmp_path / "one", **shared) as one,
        running_server(tmp_path / "two", **shared) as two,
        httpx.Client(base_url=one.address, timeout=PATIENCE_SECONDS) as first,
        httpx.Client(base_url=two.address, timeout=PATIENCE_SECONDS) as second,
    ):
        first.put("/v1/vocabularies/pets", json={"labels": TWO}, headers={"If-None-Match": "*"})
        assert eventually(lambda: version(second, "pets") == 1)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SERVE_STORE_URL", "postgresql://user@127.0.0.1:1/none", "database is unavailable"),
        ("SERVE_STORE_URL", "here", "store_url is not a valid database URL"),
        ("SERVE_STORE_URL", "sqlite://:port/x", "store_url"),
        ("SERVE_OUTGOING__SCHEMES", "[]", "SERVE_OUTGOING__SCHEMES"),
        ("SERVE_STORE_URL", "mysql://localhost/x", "must be a sqlite or postgresql URL"),
        ("SERVE_DATA_DIR", "/proc/none/here", "cannot write to the data folder /proc/none/here"),
    ],
)
def test_a_setting_that_cannot_be_used_stops_the_start_with_its_reason(
    tmp_path: Path, variable: str, value: str, words: str
) -> None:
    with pytest.raises(RuntimeError, match=words), running_server(tmp_path, **{variable: value}):
        pass
