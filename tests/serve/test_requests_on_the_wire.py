"""Requests byte for byte against a real server: forms as clients write them, and options that would be ignored."""

from pathlib import Path
from typing import Any

import pytest

from tests.running_server import RunningServer
from tests.serve.form_bodies import CLIENTS, LABELS, RFC_RULES, VIDEO, FormBody
from tests.serve.wire import WireAnswer, exchange, request
from tests.shared_data import FIELD, needs_shared

PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
FORM = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def clip(demo_clip: Path) -> bytes:
    return demo_clip.read_bytes()


def labels_of(answer: WireAnswer) -> list[str]:
    """The labels a classification was asked for, best first."""
    assert answer.status == 200, answer.body
    found = answer.json()
    assert found["vocabulary"] is None
    return [item["label"] for item in found["results"]]


@pytest.mark.parametrize("form", [*CLIENTS.values(), *RFC_RULES.values()], ids=[*CLIENTS, *RFC_RULES])
def test_every_client_gets_an_answer_about_its_labels(demo_server: RunningServer, clip: bytes, form: FormBody) -> None:
    body = form.body.replace(VIDEO, clip)
    sent = request("POST", "/v1/classify", body, Content_Type=form.content_type)
    assert sorted(labels_of(exchange(demo_server.address, sent))) == sorted(LABELS.split(","))


def test_a_chunked_form_is_read(demo_server: RunningServer, clip: bytes) -> None:
    form = CLIENTS["curl"]
    body = form.body.replace(VIDEO, clip)
    pieces = [body[start : start + 777] for start in range(0, len(body), 777)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = request("POST", "/v1/classify", Content_Type=form.content_type, Transfer_Encoding="chunked")
    assert sorted(labels_of(exchange(demo_server.address, head + chunked))) == sorted(LABELS.split(","))


def test_query_options_beside_a_form_are_used(demo_server: RunningServer, clip: bytes) -> None:
    body = PART % (b"video", clip) + PART % (b"top_k", b"1") + b"--b--\r\n"
    target = "/v1/classify?candidate_labels=apple%20pie,walking+fast"
    (label,) = labels_of(exchange(demo_server.address, request("POST", target, body, Content_Type=FORM)))
    assert label in ("apple pie", "walking fast")


@pytest.mark.parametrize(
    ("target", "fields", "words"),
    [
        ("?top_k=1", [(b"top_k", b"1")], "`top_k` is in the form and in the query"),
        ("?top_k=1", [(b"options", b'{"top_k": 1}')], "`top_k` is in `options` of the form and in the query"),
        ("", [(b"options", b'{"top_k": 1}'), (b"top_k", b"1")], "`top_k` is in `options` of the form and"),
        ("", [(b"options", b'{"top_k": 1, "top_k": 1}')], "'top_k' occurs twice"),
        ("?topk=1", [], "unknown query option `topk`"),
        ("?top_k=1&top_k=1", [], "the query has `top_k` 2 times"),
        ("", [(b"top_k", b"1")] * 2, "the form has `top_k` 2 times"),
        ("?candidate_labels=%ff", [], "not valid UTF-8"),
        ("?candidate_labels=a%00b,c", [], "NUL"),
        ("?%ff=1", [], "not valid UTF-8"),
        ("", [(b"candidate_labels", b"[" * 100_000)], "nested deeper than"),
        ("", [(b"templates", b"[" * 100_000)], "nested deeper than"),
        ("", [(b"options", b'{"templates": ' + b"[" * 100_000)], "nested deeper than"),
        ("", [(b"top_k", b"9" * 5000)], "top_k"),
        ("", [(b"num_crops", b"9" * 5000)], "num_crops"),
        ("", [(b"options", b'{"top_k": ' + b"9" * 5000 + b"}")], "integers must be from"),
        ("", [(b"options", b'{"threshold": 1e999}')], "too large for a double"),
        ("", [(b"options", b'{"threshold": NaN}')], "NaN is not valid JSON"),
        ("", [(b"candidate_labels", b'["\\ud800"]')], "surrogate"),
        ("", [(b"candidate_labels", b'["a\\u0000", "b"]')], "NUL"),
        ("", [(b"vocabulary", b"demo@99999999999999999999")], "a version is"),
        ("", [(b"model", "demo@\u0661".encode())], "NAME or NAME@VERSION"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_options_that_would_be_ignored_or_cannot_be_read_are_refused(
    demo_server: RunningServer, clip: bytes, target: str, fields: list[tuple[bytes, bytes]], words: str
) -> None:
    body = b"".join(PART % field for field in fields) + PART % (b"video", clip) + b"--b--\r\n"
    answer = exchange(demo_server.address, request("POST", f"/v1/classify{target}", body, Content_Type=FORM))
    assert answer.status in (404, 422), answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


ROUTES = [
    ("GET", "/v1/vocabularies"), ("GET", "/v1/vocabularies/demo"), ("GET", "/v1/vocabularies/demo/versions"),
    ("GET", "/v1/vocabularies/demo:diff?from=1&to=1"), ("GET", "/v1/vocabularies/demo:export"),
    ("PUT", "/v1/vocabularies/x"), ("PATCH", "/v1/vocabularies/demo"), ("DELETE", "/v1/vocabularies/demo"),
    ("POST", "/v1/vocabularies/demo:rollback"), ("POST", "/v1/vocabularies/demo:calibrate"),
    ("GET", "/v1/vocabularies/demo/labels/a/examples"), ("POST", "/v1/vocabularies/demo/labels/a/examples"),
    ("DELETE", "/v1/vocabularies/demo/labels/a/examples"), ("GET", "/v1/models"), ("GET", "/v1/limits"),
    ("POST", "/v1/models/demo:activate"), ("POST", "/v1/models/demo:rollback"), ("GET", "/v1/feedback"),
    ("POST", "/v1/feedback"), ("DELETE", "/v1/feedback/a"), ("GET", "/healthz"), ("GET", "/readyz"),
    ("GET", "/metrics"), ("POST", "/v1/classify"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target"), ROUTES, ids=[" ".join(route) for route in ROUTES])
@pytest.mark.parametrize(
    ("query", "words"), [("surprise=1", "`surprise`"), ("surprise", "`surprise`"), ("a=%ff", "not valid UTF-8")]
)
def test_no_route_ignores_its_query(
    demo_server: RunningServer, method: str, target: str, query: str, words: str
) -> None:
    joined = f"{target}{'&' if '?' in target else '?'}{query}"
    answer = exchange(demo_server.address, request(method, joined, Content_Type="application/json"))
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json"), answer.body
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/v1/vocabularies?page_size=1&page_size=2", "2 times"),
        ("/v1/vocabularies/demo:diff?from=1&from=1&to=1", "2 times"),
        ("/v1/vocabularies/demo:diff?from=9223372036854775808&to=1", "from"),
        ("/v1/vocabularies/demo/versions?page_token=WyJ2ZXJzaW9ucyBvZiBkZW1vIiwgImFiYyJd", "page_token"),
        ("/v1/vocabularies/demo/versions?page_token=" + "A" * 5000, "page_token"),
        ("/v1/vocabularies/d%ffmo", "not valid UTF-8"),
        ("/v1/vocabularies/d%00mo", "NUL"),
    ],
)
def test_a_target_that_cannot_be_read_is_refused(demo_server: RunningServer, target: str, words: str) -> None:
    answer = exchange(demo_server.address, request("GET", target))
    assert (answer.status, words in answer.json()["detail"]) == (422, True), answer.body


@pytest.mark.parametrize(
    "body",
    [
        b'{"labels": ["a", "b"], "metadata": {"x": 1e999}}',
        b'{"labels": ["a", "b"], "metadata": {"x": NaN}}',
        b'{"labels": ["a", "b"], "metadata": {"x": [-Infinity]}}',
        b'{"labels": ["a", "b"], "metadata": {"x": ' + b"9" * 5000 + b"}}",
        b'{"labels": ["a", "b"], "metadata": {"x": ' + b"[" * 1000 + b"]" * 1000 + b"}}",
        b'{"labels": ["a", "b"], "metadata": {"x": "\\ud800"}}',
        b'{"labels": ["a", "b"], "metadata": {"x": "\\u0000"}}',
        b'{"labels": ["a", "b"], "metadata": {"\\u0000": 1}}',
        b'{"labels": ["a", "b"], "description": "\\u0000"}',
        b'{"labels": ["a", "b"], "labels": ["c"]}',
        b'{"labels": ["a", "b"], "metadata": {"x": "\xff"}}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[-40:]),
)
def test_a_vocabulary_that_could_not_be_read_back_is_not_stored(demo_server: RunningServer, body: bytes) -> None:
    target, kind = "/v1/vocabularies/hostile", "application/json"
    answer = exchange(demo_server.address, request("PUT", target, body, Content_Type=kind, If_None_Match="*"))
    assert answer.status == 422, answer.body
    assert exchange(demo_server.address, request("GET", target)).status == 404


@pytest.mark.parametrize("version", [2**31, 2**63, 10**30, 0, -1, "1.5", '"1"', "1e0", "true"])
def test_a_rollback_to_no_version_is_refused(demo_server: RunningServer, version: Any) -> None:
    body = f'{{"version": {version}}}'.encode()
    sent = request("POST", "/v1/vocabularies/demo:rollback", body, Content_Type="application/json", If_Match="*")
    assert exchange(demo_server.address, sent).status == 422


def test_a_model_rollback_has_no_options(demo_server: RunningServer) -> None:
    target, kind = "/v1/models/demo:rollback", "application/json"
    answer = exchange(demo_server.address, request("POST", target, b'{"version": 1}', Content_Type=kind))
    assert (answer.status, "version" in answer.json()["detail"]) == (422, True)
    for body in (b"{}", b""):  # there is no version before
        assert exchange(demo_server.address, request("POST", target, body, Content_Type=kind)).status == 404


def test_a_put_says_one_precondition(demo_server: RunningServer) -> None:
    headers = {"Content_Type": "application/json", "If_None_Match": "*", "If_Match": '"1"'}
    sent = request("PUT", "/v1/vocabularies/both", b'{"labels": ["a", "b"]}', **headers)
    assert exchange(demo_server.address, sent).status == 422


def test_an_example_is_kept_by_what_get_shows(demo_server: RunningServer) -> None:
    body = b'{"labels": [{"name": "a", "examples": [{"example_id": "x", "weight": 2}]}, "b"]}'
    sent = request("PUT", "/v1/vocabularies/odd", body, Content_Type="application/json", If_None_Match="*")
    answer = exchange(demo_server.address, sent)
    assert (answer.status, "weight" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("tag", ['"9999999999"', '"' + "9" * 30 + '"', "1", 'W/"1"', '"\xb2"', '"0"', '""', "*, *"])
def test_a_tag_that_names_no_version_is_stale(demo_server: RunningServer, tag: str) -> None:
    answer = exchange(demo_server.address, request("DELETE", "/v1/vocabularies/demo", If_Match=tag))
    assert answer.status == 412, answer.body


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Request_Id": "a\x7fb\xe9"},
        {"X_Request_Id": "x" * 10_000},
        {"X_Author": "\xff\xfe"},
        {"Prefer": "wait=" + "9" * 5000},
        {"Prefer": "wait=1e999"},
        {"Range": "bytes=999999999999999999999-"},
        {"Accept": "\xff"},
        {"Content_Type": "\xff; boundary=\xff"},
        {"If_None_Match": '"' + "9" * 5000 + '"'},
    ],
    ids=str,
)
@pytest.mark.parametrize("target", ["/v1/vocabularies/demo", "/healthz", "/web/app.js"])
def test_odd_headers_do_no_harm(demo_server: RunningServer, target: str, headers: dict[str, str]) -> None:
    assert exchange(demo_server.address, request("GET", target, **headers)).status in (200, 400, 416)


@needs_shared
@pytest.mark.parametrize("name", ["form_extra_crlf", "form_query_options", "form_latin1_filename", "form_preamble"])
def test_recorded_requests_are_answered(demo_server: RunningServer, name: str) -> None:
    answer = exchange(demo_server.address, (FIELD / f"{name}.http").read_bytes())
    assert len(labels_of(answer)) == 2


@needs_shared
def test_a_recorded_form_with_a_name_outside_utf8_is_refused(demo_server: RunningServer) -> None:
    body = (FIELD / "form_part_not_utf8.bin").read_bytes()
    sent = request("POST", "/v1/classify", body, Content_Type="multipart/form-data; boundary=BB")
    answer = exchange(demo_server.address, sent)
    assert (answer.status, "UTF-8" in answer.json()["detail"]) == (422, True)
