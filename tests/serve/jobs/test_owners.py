"""Jobs belong to the API key that made them: others neither see nor change them, and idempotency keys do not meet."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.access.key_store import KeyStore
from serve.data_folder import open_database
from serve.scopes import Scope
from serve.settings import ServeSettings
from tests.running_server import running_server
from tests.waiting import PATIENCE_SECONDS, eventually


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, httpx.Client]]:
    """Clients of a server with keys: ada and bob may use it, the operator may do everything."""
    folder = tmp_path_factory.mktemp("keys")
    database = open_database(ServeSettings(data_dir=folder / "data"))
    database.migrate()
    scopes = {"ada": Scope.INFER, "bob": Scope.INFER, "operator": Scope.ADMIN}
    store = KeyStore(database)
    keys = {name: store.create(name, [scope], lifetime_seconds=None)[1] for name, scope in scopes.items()}
    database.close()
    with running_server(folder) as server:
        found = {
            name: httpx.Client(base_url=server.address, headers={"X-API-Key": key}, timeout=PATIENCE_SECONDS)
            for name, key in keys.items()
        }
        yield found
        for client in found.values():
            client.close()


def made(client: httpx.Client, clip: Path) -> str:
    response = client.post(
        "/v1/jobs", files={"video": clip.read_bytes()}, data={"kind": "embed"}, headers={"Idempotency-Key": "same"}
    )
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def test_a_job_is_there_for_its_key_and_for_the_operator(clients: dict[str, httpx.Client], demo_clip: Path) -> None:
    ada, bob, operator = clients["ada"], clients["bob"], clients["operator"]
    own, other = made(ada, demo_clip), made(bob, demo_clip)
    assert own != other
    assert made(ada, demo_clip) == own
    for client, expected in ((ada, {own}), (bob, {other}), (operator, {own, other})):
        assert {job["id"] for job in client.get("/v1/jobs").json()["jobs"]} == expected
    for path in ("", "/output", "/errors", "/events"):
        response = bob.get(f"/v1/jobs/{own}{path}")
        assert (response.status_code, response.json()["type"]) == (404, "/problems/unknown-job")
    assert bob.delete(f"/v1/jobs/{own}").status_code == 404
    assert ada.get(f"/v1/jobs/{own}").json()["status"] not in ("cancelling", "cancelled")
    assert operator.get(f"/v1/jobs/{own}").json()["id"] == own
    assert ada.delete(f"/v1/jobs/{own}").status_code in (202, 204)


def test_a_video_that_a_job_stores_belongs_to_the_key_of_the_job(
    clients: dict[str, httpx.Client], demo_clip: Path
) -> None:
    ada, bob = clients["ada"], clients["bob"]
    data = {"kind": "classify", "options": '{"store": true}'}
    response = ada.post("/v1/jobs", files={"video": demo_clip.read_bytes()}, data=data)
    address = response.headers["location"]
    assert eventually(lambda: ada.get(address).json()["status"] == "completed")
    line = ada.get(f"{address}/output").json()
    assert [video["video_id"] for video in ada.get("/v1/videos").json()["videos"]] == [line["result"]["video_id"]]
    assert bob.get("/v1/videos").json()["videos"] == []
