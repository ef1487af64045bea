"""Every error becomes a problem of one shape, FastAPI's and Starlette's own included."""

import pickle
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from serve.admission.bodies import BodyAdmission
from serve.api import problems
from serve.api.middleware import RequestContextMiddleware
from serve.errors import ActserveError, ContractError, EngineFailure, Overloaded, VideoTooShort
from serve.settings import BodySettings

MEMBERS = {"type", "title", "status", "detail", "request_id"}


def tree(root: type[ActserveError]) -> Iterator[type[ActserveError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.fixture
def app() -> FastAPI:
    """A bare application that raises whatever a test asks for; problems and middleware are the server's."""
    application = FastAPI()
    application.state.bodies = BodyAdmission(BodySettings())
    problems.install(application)
    application.add_middleware(RequestContextMiddleware)
    by_name = {kind.__name__: kind for kind in tree(ActserveError)}

    @application.get("/raise/{name}")
    async def raise_it(name: str, number: int = 0) -> None:
        if name == "unknown":
            raise RuntimeError("a secret of the house")
        raise by_name[name]("what was found and what is allowed", num_frames=number)

    return application


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


def assert_problem(response: Response, status: int, slug: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) >= MEMBERS
    assert body["status"] == status
    assert body["type"] == f"/problems/{slug}"
    assert body["request_id"] == response.headers["x-request-id"]


def test_every_error_of_the_tree_has_a_status() -> None:
    assert set(problems.STATUS) == set(tree(ActserveError))


def test_errors_survive_pickling_with_their_facts() -> None:
    for kind in tree(ActserveError):
        copy = pickle.loads(pickle.dumps(kind("message", num_frames=3)))
        assert (type(copy), copy.message, copy.details) == (kind, "message", {"num_frames": 3})


@pytest.mark.parametrize("kind", list(tree(ActserveError)), ids=lambda kind: kind.__name__)
async def test_each_error_is_answered_in_the_same_shape(client: AsyncClient, kind: type[ActserveError]) -> None:
    response = await client.get(f"/raise/{kind.__name__}", params={"number": 7})
    status = problems.STATUS[kind]
    assert_problem(response, status, problems.describe(kind)[0])
    shows_facts = status != 500
    assert ("num_frames" in response.json()) is shows_facts
    assert ("what was found" in response.json()["detail"]) is shows_facts
    assert ("retry-after" in response.headers) is (status in (429, 503))


def test_slugs_read_like_the_class() -> None:
    assert problems.describe(VideoTooShort) == ("video-too-short", "Video too short")
    assert problems.STATUS[Overloaded] == 503
    assert problems.STATUS[EngineFailure] == problems.STATUS[ContractError] == 500


async def test_an_unknown_exception_keeps_its_secret(client: AsyncClient) -> None:
    response = await client.get("/raise/unknown", headers={"x-request-id": "mine-1"})
    assert_problem(response, 500, "internal-error")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("POST", "/raise/unknown", 405, "method-not-allowed"),
        ("GET", "/raise/unknown?number=x", 422, "invalid-option"),
    ],
    ids=["unknown path", "wrong method", "wrong type"],
)
async def test_the_framework_s_own_errors_are_problems_too(
    client: AsyncClient, method: str, path: str, status: int, slug: str
) -> None:
    assert_problem(await client.request(method, path), status, slug)


async def test_a_request_id_that_is_no_plain_word_is_replaced(client: AsyncClient) -> None:
    response = await client.get("/nowhere", headers={"x-request-id": "a b\tc"})
    assert response.headers["x-request-id"] != "a b\tc"
    assert response.json()["request_id"] == response.headers["x-request-id"]
