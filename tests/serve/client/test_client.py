"""Behaviour of the client: retries, uploads, problems, conflicts, interrupted streams."""

import asyncio
import io
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from serve.client import AsyncClient, Client, ProblemError, RetryPolicy, ServerUnreachable, UnexpectedResponse
from serve.client.calls import Call
from serve.client.events import EventParser
from serve.client.retries import retry_after_seconds
from tests.cutting_proxy import CuttingProxy
from tests.running_server import ROOT, RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS

LABELS = ["a person in red walking to the left", "a person in blue clapping"]
FAST = RetryPolicy(base_seconds=0.0)
PROBLEM = {"type": "/problems/overloaded", "title": "Overloaded", "status": 503, "detail": "full", "request_id": "r1"}


@pytest.fixture
def client(demo_server: RunningServer) -> Iterator[Client]:
    with Client(demo_server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(params=["path", "text", "bytes", "stream"])
def video(request: pytest.FixtureRequest, demo_clip: Path) -> object:
    content = demo_clip.read_bytes()
    return {"path": demo_clip, "text": str(demo_clip), "bytes": content, "stream": io.BytesIO(content)}[request.param]


def scripted(*responses: httpx.Response | Exception, retries: RetryPolicy = FAST) -> tuple[Client, list[httpx.Request]]:
    """Return a client of a proxy that sends these responses one after the other, and the list of its requests."""
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        request.read()
        requests.append(request)
        response = responses[len(requests) - 1]
        if isinstance(response, Exception):
            raise response
        return response

    http = httpx.Client(transport=httpx.MockTransport(handle))
    return Client("http://proxy", retries=retries, http=http), requests


def refusal(status: int = 503, **headers: str) -> httpx.Response:
    content = {"Content-Type": "application/problem+json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return httpx.Response(status, json={**PROBLEM, "status": status}, headers=content)


def test_importing_the_client_loads_httpx_and_the_standard_library_only() -> None:
    probe = (
        "import sys; before = set(sys.modules); import serve.client;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    allowed = {"serve", "httpx", "httpcore", "h11", "h2", "anyio", "sniffio", "idna", "certifi", "socksio", "brotli",
               "zstandard", "click", "rich", "pygments", "markdown_it", "mdurl", "typing_extensions"}  # fmt: skip
    assert not set(result.stdout.split()) - allowed - {"_brotli", "__mp_main__"}


def test_a_video_is_sent_from_each_kind_of_source(client: Client, video: object) -> None:
    sent: list[tuple[int, int | None]] = []
    result = client.classify(video, candidate_labels=LABELS, progress=lambda done, total: sent.append((done, total)))  # type: ignore[arg-type]
    assert result["results"][0]["label"] == LABELS[0]
    done, total = sent[-1]
    assert done == total and [item[0] for item in sent] == sorted(item[0] for item in sent)


async def test_the_asynchronous_client_has_the_same_results(client: Client, video: object) -> None:
    sent: list[int] = []
    async with AsyncClient(client.server, timeout_seconds=PATIENCE_SECONDS) as other:
        result = await other.classify(
            video,
            candidate_labels=LABELS,
            progress=lambda done, _total: sent.append(done),  # type: ignore[arg-type]
        )
        names = [item["name"] async for item in other.vocabularies(page_size=1)]
    assert result["results"] == client.classify(video, candidate_labels=LABELS)["results"]  # type: ignore[arg-type]
    assert sent and names == [item["name"] for item in client.vocabularies()]


def test_an_upload_is_not_read_into_memory(client: Client, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    with large.open("wb") as stream:
        stream.truncate(64 * 2**20)  # sparse
    chunks: list[int] = []
    with pytest.raises(ProblemError) as caught:
        client.classify(large, candidate_labels=LABELS, progress=lambda done, _total: chunks.append(done))
    assert caught.value.slug == "unsupported-media" or caught.value.status in (413, 415, 422)
    assert max(b - a for a, b in zip([0, *chunks], chunks, strict=False)) <= 2**20


def test_a_problem_is_an_exception_with_its_members(client: Client) -> None:
    with pytest.raises(ProblemError) as caught:
        client.classify(b"no video", candidate_labels=LABELS)
    error = caught.value
    assert (error.status, error.type, error.slug) == (415, "/problems/unsupported-media", "unsupported-media")
    assert error.request_id and error.request_id in str(error) and error.detail in str(error)
    copied = pickle.loads(pickle.dumps(error))
    assert copied.document == error.document


def test_an_unknown_option_is_an_error_before_anything_is_sent() -> None:
    client, requests = scripted()
    with pytest.raises(TypeError, match="unknown option 'topk'; allowed are candidate_labels"):
        client.classify(b"", topk=3)  # type: ignore[call-arg]
    assert not requests


def test_a_missing_file_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    client, requests = scripted()
    with pytest.raises(FileNotFoundError):
        client.classify(tmp_path / "none.mp4")
    assert not requests


def test_an_unreadable_file_is_named() -> None:
    client, requests = scripted()
    with pytest.raises(OSError, match=r"/proc/self/mem"):
        client.classify("/proc/self/mem")
    assert not requests


@pytest.mark.parametrize("status", [429, 503])
def test_a_refused_upload_is_sent_again_in_full(status: int) -> None:
    client, requests = scripted(refusal(status), refusal(status), httpx.Response(200, json={"results": []}))
    client.classify(io.BytesIO(b"video" * 1000), candidate_labels=LABELS)
    bodies = [
        request.content.replace(request.headers["Content-Type"].partition("=")[2].encode(), b"") for request in requests
    ]
    assert len(bodies) == 3 and bodies[0].count(b"video") > 999
    assert len(set(map(len, bodies))) == 1


def test_the_delay_is_at_least_retry_after() -> None:
    call = Call(method="POST", path="/v1/classify")
    policy = RetryPolicy(base_seconds=0.5)
    for attempt in range(1, 4):
        plain = policy.delay_after_response(call, attempt, refusal())
        assert plain is not None and 0.25 * 2 ** (attempt - 1) <= plain <= 0.5 * 2 ** (attempt - 1)
        assert policy.delay_after_response(call, attempt, refusal(Retry_After="7")) == 7
    assert policy.delay_after_response(call, 4, refusal()) is None  # the last attempt
    assert policy.delay_after_response(call, 1, refusal(Retry_After="3600")) is None


def test_retry_after_may_be_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=60)
    seconds = retry_after_seconds(refusal(Retry_After=format_datetime(soon, usegmt=True)))
    assert seconds is not None and 0 < seconds <= 60
    assert retry_after_seconds(refusal(Retry_After="Thu, 26 Nov 2020 10:00:00 GMT")) == 0
    assert retry_after_seconds(refusal(Retry_After="soon")) is None


def test_the_last_problem_is_raised_with_its_retry_after() -> None:
    client, requests = scripted(*[refusal(Retry_After="0")] * 4)
    with pytest.raises(ProblemError) as caught:
        client.limits()
    assert len(requests) == 4 and caught.value.retry_after_seconds == 0


@pytest.mark.parametrize(
    ("send", "attempts"),
    [
        (lambda client: client.limits(), 2),
        (lambda client: client.create_job("embed", [b"video"]), 2),  # has an idempotency key
        (lambda client: client.classify(b"video"), 1),
        (lambda client: client.stored_video("v").delete(), 1),
    ],
    ids=["read", "idempotency key", "post", "delete"],
)
def test_only_safe_calls_are_repeated_after_a_lost_connection(send, attempts: int) -> None:  # type: ignore[no-untyped-def]
    client, requests = scripted(httpx.ReadError("reset"), httpx.ConnectTimeout("no"), httpx.ReadTimeout("late"))
    with pytest.raises(ServerUnreachable):
        send(client)
    assert len(requests) == (3 if attempts == 2 else 1)


def test_a_call_is_repeated_when_no_connection_could_be_made() -> None:
    client, requests = scripted(httpx.ConnectError("refused"), httpx.Response(200, json={"results": []}))
    client.classify(b"video")
    assert len(requests) == 2


def test_the_retries_of_a_job_have_one_key() -> None:
    job = {"id": "job_1", "status": "validating"}
    client, requests = scripted(httpx.ReadError("reset"), refusal(), httpx.Response(202, json=job))
    assert client.create_job("embed", [b"video"]).id == "job_1"
    assert len({request.headers["Idempotency-Key"] for request in requests}) == 1


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"hello": 1}),
        httpx.Response(404, text="not here"),
        httpx.Response(302, headers={"Location": "/login"}),
    ],
    ids=["html", "list", "other fields", "error without a problem", "redirect"],
)
def test_a_response_of_another_server_is_an_error(response: httpx.Response) -> None:
    client, _ = scripted(response)
    with pytest.raises(UnexpectedResponse, match="http://proxy/v1/limits"):
        client.limits()


def test_the_server_and_the_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTSERVE_SERVER", "http://127.0.0.1:9/")
    monkeypatch.setenv("ACTSERVE_API_KEY", "secret")
    assert Client().server == "http://127.0.0.1:9"
    client, requests = scripted(httpx.Response(200, json={"max_upload_bytes": 1}))
    client.limits()
    assert requests[0].headers["Authorization"] == "Bearer secret"
    with pytest.raises(ValueError, match="must look like"):
        Client("localhost:8080")


def test_a_closed_port_is_an_unreachable_server() -> None:
    with (
        Client("http://127.0.0.1:9", retries=FAST) as client,
        pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:9"),
    ):
        client.limits()


def test_changes_of_labels_are_repeated_after_a_conflict_and_others_are_not(client: Client) -> None:
    mine, other = client.vocabulary("conflicts"), client.vocabulary("conflicts")
    mine.create(["walking"])
    assert other.add("padel")["version"] == 2  # `mine` still knows version 1
    assert mine.add("tennis")["version"] == 3
    assert client.vocabulary("conflicts").labels() == ["walking", "padel", "tennis"]
    with pytest.raises(ProblemError) as caught:
        other.set(description="of version 2")
    assert caught.value.status == 412
    other.get()
    assert other.set(description="of version 3")["description"] == "of version 3"
    with pytest.raises(ProblemError) as caught:
        mine.create(["walking"])
    assert caught.value.status == 412
    client.vocabulary("conflicts").delete()


async def test_concurrent_additions_are_all_kept(demo_server: RunningServer) -> None:
    names = [f"label {number}" for number in range(5)]  # each conflict of one is the success of another: at most 4
    async with AsyncClient(demo_server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        vocabulary = client.vocabulary("crowd", wait_seconds=PATIENCE_SECONDS)
        await vocabulary.create(["walking"])
        await asyncio.gather(*(client.vocabulary("crowd").add(name) for name in names))
        assert sorted(await vocabulary.labels()) == sorted(["walking", *names])
        await vocabulary.delete()


async def test_a_full_server_serves_every_patient_client(tmp_path: Path, demo_clip: Path) -> None:
    patient = RetryPolicy(max_attempts=1000, base_seconds=0.01)
    with running_server(tmp_path, SERVE_LIMITS__MAX_IN_FLIGHT="1") as server:
        async with AsyncClient(server.address, retries=patient, timeout_seconds=PATIENCE_SECONDS) as client:
            work = [client.classify(demo_clip, candidate_labels=LABELS, num_clips=4) for _ in range(3)]
            results = await asyncio.gather(*work)
    assert [result["results"][0]["label"] for result in results] == [LABELS[0]] * 3


def test_interrupted_events_are_resumed_without_loss(demo_server: RunningServer, demo_clip: Path) -> None:
    with Client(demo_server.address) as direct:
        job = direct.create_job("classify", [demo_clip, b"no video"], options={"candidate_labels": LABELS})
        job.wait(PATIENCE_SECONDS)
        expected = [event for event in job.events() if event["id"] is not None]
    with CuttingProxy(demo_server.address, max_bytes=[700, 500]) as proxy, Client(proxy.address) as client:
        events = [event for event in client.job(job.id).events() if event["id"] is not None]
        assert proxy.num_cut >= 1
    assert events == expected


def test_waiting_for_a_job_ends_at_the_timeout(demo_server: RunningServer, demo_clip: Path) -> None:
    with Client(demo_server.address) as client:
        options = {"candidate_labels": LABELS, "num_clips": 10, "num_crops": 3}
        job = client.create_job("classify", [demo_clip] * 20, options=options)
        with pytest.raises(TimeoutError, match=job.id):
            job.wait(0.0)
        seen: list[str] = []
        job.cancel_or_delete()
        assert job.wait(PATIENCE_SECONDS, on_event=lambda event: seen.append(event["event"]))["status"] == "cancelled"
        assert "status" in seen


def test_the_parser_of_events_follows_the_standard() -> None:
    parser = EventParser()
    lines = [": comment", "", "id: 3", "event:status", 'data: {"a":', "data: 1}", "", "event: empty", ""]
    events = [event for line in lines if (event := parser.feed(line)) is not None]
    assert events == [{"id": "3", "event": "status", "data": {"a": 1}}]


def test_a_call_as_a_curl_command_sends_the_same(client: Client, demo_clip: Path) -> None:
    call = Call(method="POST", path="/v1/embeddings", json={"input": ["it's"]})
    command = call.to_curl(client.server)
    shown = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert b'"embedding"' in shown.stdout
