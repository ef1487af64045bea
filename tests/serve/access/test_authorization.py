"""A server with keys: every route against every scope, and keys that do not count."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.access.key_store import KeyStore
from serve.access.keys import split_key
from serve.data_folder import open_database
from serve.scopes import ROUTE_SCOPES, Scope, satisfies
from serve.settings import ServeSettings
from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS, eventually

KEYED = [(method, path, scope) for (method, path), scope in ROUTE_SCOPES.items() if scope is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[KeyStore]:
    database = open_database(ServeSettings(data_dir=folder / "data"))
    database.migrate()
    yield KeyStore(database)
    database.close()


@pytest.fixture(scope="module")
def keys(store: KeyStore) -> dict[Scope, str]:
    """A key for each scope; they exist before the server starts."""
    return {scope: store.create(scope, [scope], lifetime_seconds=None)[1] for scope in Scope}


@pytest.fixture(scope="module")
def server(folder: Path, keys: dict[Scope, str]) -> Iterator[RunningServer]:
    with running_server(folder, SERVE_FEEDBACK__ENABLED="true") as running:
        yield running


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(("method", "path", "required"), KEYED, ids=lambda value: str(value))
def test_a_route_takes_the_keys_with_its_scope_only(
    method: str, path: str, required: Scope, http: httpx.Client, keys: dict[Scope, str]
) -> None:
    """Nothing of these names exists, so that what is allowed changes nothing."""
    path = path.replace("{name}", "absent").replace("{label_id}", "absent").replace("{example_id}", "absent")
    path = (
        path.replace("{feedback_id}", "absent").replace("{video_id}", "absent").replace("{job_id}", "job_" + "0" * 32)
    )
    without = http.request(method, path)
    assert without.status_code == 401 and without.json()["type"] == "/problems/unauthenticated"
    assert without.headers["www-authenticate"].startswith("Bearer")
    for scope, key in keys.items():
        status = http.request(method, path, headers=bearer(key)).status_code
        assert (status not in (401, 403)) == satisfies([scope], required), (scope, status)


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/readyz", "/openapi.json", "/web/app.js"])
def test_the_page_and_the_probes_need_no_key(path: str, http: httpx.Client) -> None:
    assert http.get(path).status_code == 200


def test_keys_that_do_not_count_are_all_refused_alike(
    http: httpx.Client, keys: dict[Scope, str], store: KeyStore
) -> None:
    good = keys[Scope.READ]
    _, expired = store.create("expired", [Scope.ADMIN], lifetime_seconds=0.001)
    assert eventually(lambda: not store.all()[-1].is_valid())
    wrong = good[:-1] + ("A" if good[-1] != "A" else "B")
    unknown = f"as_{'0' * 12}_{good[16:]}"
    answers = {
        (response.status_code, response.json()["detail"])
        for key in (expired, wrong, unknown, "nonsense", "as_", "ä" * 10)
        for response in [http.get("/v1/limits", headers={"X-API-Key": key.encode()})]
    }
    assert answers == {(401, "the API key is unknown, expired or revoked")}
    both = http.get("/v1/limits", headers={**bearer(good), "X-API-Key": good})
    assert both.status_code == 401 and "both" in both.json()["detail"]
    basic = http.get("/v1/limits", auth=("user", good))
    assert basic.status_code == 401 and "Bearer" in basic.json()["detail"]
    assert http.get("/v1/limits", headers={"X-API-Key": good}).status_code == 200
    assert http.get("/v1/limits", headers={"authorization": f"BEARER {good}"}).status_code == 200


def test_a_new_key_counts_at_once_and_a_revoked_one_soon_no_more(http: httpx.Client, store: KeyStore) -> None:
    _, key = store.create("passing", [Scope.READ], lifetime_seconds=None)
    assert http.get("/v1/limits", headers=bearer(key)).status_code == 200
    (used,) = [item.last_used_at for item in store.all() if item.name == "passing"]
    assert used is not None and abs(used - time.time()) < PATIENCE_SECONDS
    store.revoke("passing")
    assert eventually(lambda: http.get("/v1/limits", headers=bearer(key)).status_code == 401)


def test_the_author_of_a_change_is_the_name_of_the_key(http: httpx.Client, keys: dict[Scope, str]) -> None:
    headers = {**bearer(keys[Scope.EDIT]), "If-None-Match": "*"}
    made = http.put("/v1/vocabularies/authored", json={"labels": ["a", "b"]}, headers=headers)
    assert made.status_code in (200, 201, 202), made.text
    versions = http.get("/v1/vocabularies/authored/versions", headers=bearer(keys[Scope.READ])).json()["versions"]
    assert [item["author"] for item in versions] == ["edit"]
    forged = http.patch(
        "/v1/vocabularies/authored",
        json={"add": ["c"]},
        headers={**bearer(keys[Scope.EDIT]), "If-Match": "*", "X-Author": "somebody else"},
    )
    assert forged.status_code == 422 and "X-Author" in forged.json()["detail"]


def test_no_key_is_logged(server: RunningServer, http: httpx.Client, keys: dict[Scope, str]) -> None:
    http.get("/v1/limits", headers=bearer(keys[Scope.ADMIN]))
    http.get("/v1/limits", params={"key": keys[Scope.ADMIN]})
    log = "".join(server.log)
    for key in keys.values():
        parts = split_key(key)
        assert parts is not None and parts[1] not in log


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SERVE_HOST": "0.0.0.0"}, "listen on 0.0.0.0, but there is no valid API key"),
        ({"SERVE_AUTH__MODE": "keys"}, "SERVE_AUTH__MODE=keys, but there is no valid API key"),
        ({"SERVE_AUTH__MODE": "none"}, "SERVE_AUTH__MODE is"),
    ],
)
def test_a_server_that_would_be_open_to_others_does_not_start(
    variables: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=words), running_server(tmp_path, **variables):
        pass


def test_access_that_is_off_is_warned_of(tmp_path: Path) -> None:
    with running_server(tmp_path, SERVE_AUTH__MODE="off", SERVE_HOST="0.0.0.0") as server:
        assert any("SERVE_AUTH__MODE=off" in line for line in server.log)
        assert httpx.get(f"{server.address}/v1/limits", headers={"X-API-Key": "x"}).status_code == 200
