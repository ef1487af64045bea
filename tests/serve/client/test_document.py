"""The client covers the OpenAPI document: every operation, parameter, field of a request, and type of a response."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serve.api.inference_errors import is_inference_path
from serve.client import Client, ProblemError
from serve.client.calls import Call
from serve.client.synchronous.transport import Transport
from serve.client_source import SCHEMAS, generate, types_modules
from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS

LABELS = ["a person in red walking to the left", "a person in blue clapping"]
NOT_SENT = {  # (operation, parameter): why the client does not send it
    ("POST /v1/classify", "options of a raw body"): "the client sends forms",
    ("POST /v1/timeline", "options of a raw body"): "the client sends forms",
    ("POST /v1/embeddings", "options of a raw body"): "the client sends forms",
    ("POST /v1/search", "options of a raw body"): "the client sends forms",
    ("POST /v1/models/{name}:activate", "If-Match"): "optional; the client changes whatever is active",
    ("POST /v1/models/{name}:rollback", "If-Match"): "optional; the client changes whatever is active",
}


@dataclass
class Recorder:
    """What a client sent and how it typed the responses."""

    document: dict[str, Any]
    sent: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # operation -> names
    kinds: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # operation -> names of types
    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def operation_of(self, call: Call) -> str:
        for path in self.document["paths"]:
            pattern = re.sub(r"\\{\w+\\}", "[^/:]+", re.escape(path))
            if re.fullmatch(pattern, call.path) and call.method.lower() in self.document["paths"][path]:
                return f"{call.method} {path}"
        raise AssertionError(f"the document has no operation {call.method} {call.path}")

    def record(self, call: Call) -> None:
        names = self.sent[self.operation_of(call)]
        names |= {*call.query, *call.headers, *call.fields, *(name for name, _ in call.files)}
        names |= set(call.json or {})
        if call.path != "/v1/jobs":  # there, `options` is a member of its own
            names |= set(json.loads(call.fields.get("options", "{}")))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, demo_clip: Path) -> Iterator[RunningServer]:
    """A server of its own with all features, whose vocabularies and jobs the tests change."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "a.mp4").write_bytes(demo_clip.read_bytes())
    with running_server(
        tmp_path_factory.mktemp("client"),
        SERVE_FEEDBACK__ENABLED="true",
        SERVE_JOBS__FOLDER_ROOT=str(folder),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.send(Call(method="GET", path="/openapi.json")).json()
    return found


@pytest.fixture(scope="module")
def recorder(client: Client, document: dict[str, Any], demo_clip: Path) -> Recorder:
    """Every method was called once with every parameter."""
    recorder = Recorder(document)
    send, send_for = Transport.send, Transport.send_for

    def recording_send(transport: Transport, call: Call) -> Any:
        recorder.record(call)
        return send(transport, call)

    def recording_lines(transport: Transport, call: Call) -> Any:
        recorder.record(call)
        return stream(transport, call)

    def recording_send_for(transport: Transport, call: Call, kind: type) -> Any:
        recorder.kinds[recorder.operation_of(call)].add(kind.__name__)
        return send_for(transport, call, kind)

    stream = Transport.stream
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transport, "send", recording_send)
        patch.setattr(Transport, "stream", recording_lines)
        patch.setattr(Transport, "send_for", recording_send_for)
        use_videos(client, demo_clip)
        use_jobs(client, demo_clip)
        use_vocabularies(client, demo_clip)
        use_administration(client, demo_clip)
    return recorder


def use_videos(client: Client, clip: Path) -> None:
    several = {"templates": ["a video of {}"], "candidate_labels": LABELS}
    one = {"hypothesis_template": "a video of {}", "candidate_labels": LABELS}
    scores = {"top_k": 2, "function_to_apply": "softmax", "threshold": 0.1, "model": "demo"}
    keep = {"store": True, "expires_in_seconds": 3600, "tags": ["kitchen"]}
    result = client.classify(clip, num_clips=2, num_crops=3, **one, **scores)
    assert result["results"][0]["label"] == LABELS[0]
    stored = client.classify(clip, vocabulary="demo", **keep)["video_id"]
    assert stored is not None
    client.classify(clip, **several)
    segments = {"threshold_on": 0.5, "threshold_off": 0.2, "min_segment_seconds": 0.1, "gap_seconds": 0.1}
    windows = {"window_seconds": 0.5, "stride_seconds": 0.25, "function_to_apply": "softmax", "model": "demo"}
    client.timeline(clip, view="both", top_k=1, **one, **segments, **windows, **keep)
    with pytest.raises(ProblemError, match="relevance"):  # the model does not encode frames one by one
        client.timeline(clip, relevance=True, relevance_label=LABELS[0], **one)
    client.timeline(clip, **several)
    client.timeline(clip, vocabulary="demo")
    assert client.google_timeline(clip, candidate_labels=LABELS)["annotationResults"]
    job = client.start_timeline(clip, candidate_labels=LABELS)
    assert job.wait(PATIENCE_SECONDS)["status"] == "completed"
    embedding = {"model": "demo", "encoding_format": "float", "normalize": True}
    texts = client.embed_texts(LABELS, **embedding)["data"]
    video = client.embed_video(clip, num_clips=2, num_crops=1, **embedding)["data"]
    assert len(texts) == 2 and len(texts[0]["embedding"]) == len(video[0]["embedding"])

    moments = {"created_after": "2020-01-01T00:00:00Z", "created_before": "2100-01-01T00:00:00Z"}
    listed = list(client.stored_videos(page_size=1, tag="kitchen", model="demo", **moments))
    assert stored in {item["video_id"] for item in listed} and len(listed) == 2
    handle = client.stored_video(stored)
    assert handle.get()["tags"] == ["kitchen"]
    for options in (one, several, {"vocabulary": "demo"}):
        handle.classify(**options, **scores)
        whole = next(item["video_id"] for item in listed if item["kind"] == "windows")
        score = {"function_to_apply": "softmax", "model": "demo"}
        client.stored_video(whole).timeline(view="both", top_k=1, **segments, **options, **score)
        assert list(client.classify_stored_videos(page_size=1, tag="kitchen", **moments, **options, **scores))
    client.stored_video(whole).google_timeline(candidate_labels=LABELS)
    found = {"top_k": 3, "tag": "kitchen", "model": "demo", **moments}
    assert client.search("a person walking", **found)["results"]
    client.search_like(whole, start_seconds=0.0, end_seconds=0.5, **found)
    client.search_by_video(clip, **found)
    handle.delete()


def use_jobs(client: Client, clip: Path) -> None:
    job = client.create_job("classify", [clip, b"no video"], options={"candidate_labels": LABELS}, idempotency_key="a")
    events = list(job.events())
    assert events[-1]["data"]["status"] == "completed"
    assert [line["index"] for line in job.results()] == [0]
    assert [line["problem"]["type"] for line in job.errors()] == ["/problems/unsupported-media"]
    folder = client.create_job("embed", folder="", pattern="*.mp4")
    assert folder.wait(PATIENCE_SECONDS)["request_counts"]["completed"] == 1
    with pytest.raises(ProblemError, match="URLs"):
        client.create_job("embed", urls=["http://example.com/a.mp4"])
    for source in ({"videos": [clip]}, {"folder": ""}):
        with pytest.raises(ProblemError, match="webhook"):
            client.create_job("embed", webhook_url="https://example.com/hook", **source)
    assert len(list(client.jobs(page_size=1, status="completed"))) == 3
    assert {item["kind"] for item in client.jobs(kind="embed")} == {"embed"}
    assert folder.get()["id"] == folder.id
    assert job.cancel_or_delete() is None


def use_vocabularies(client: Client, clip: Path) -> None:
    fields: dict[str, Any] = {
        "templates": ["a video of {}"], "phrase_rule": "best", "background": ["an empty room"],
        "acceptance": {"criterion": "logit", "threshold": 1.0}, "description": "sports", "metadata": {"a": 1},
    }  # fmt: skip
    sports = client.vocabulary("sports", author="a tester", wait_seconds=PATIENCE_SECONDS)
    created = sports.create([LABELS[0], {"name": LABELS[1], "synonyms": ["clapping"]}], **fields)
    assert created["is_current"] and sports.wait_until_current(created["version"])["version"] == 1
    assert sports.add("padel")["num_labels"] == 3
    sports.rename("padel", "a/b")
    sports.update({"name": "a/b", "negatives": ["tennis"]})
    examples = sports.add_examples(LABELS[0], clip)["examples"]
    assert sports.examples(LABELS[0])["examples"] == examples
    sports.remove_examples(LABELS[0], examples[0]["example_id"])
    assert sports.examples("a/b")["examples"] == []
    sports.add_examples(LABELS[0], clip)
    sports.remove_examples(LABELS[0])
    sports.remove("a/b")
    sports.set(**{**fields, "description": "", "acceptance": None})
    sports.change(add=["running"], remove=[], rename=[], update=[], **fields)
    assert sports.labels() == [*LABELS, "running"]
    first = next(iter(sports.versions(page_size=2)))
    assert len(list(sports.versions(page_size=2))) == first["version"]
    assert sports.diff(1, first["version"])["added"] == ["running"]
    assert sports.roll_back(1)["num_labels"] == 2
    assert sports.get(1)["labels"][0]["name"] == LABELS[0]
    sports.replace(LABELS, **fields)
    text = sports.export("csv")
    assert client.vocabulary("copy").load(text, "text/csv", split_names=True)["num_labels"] == 2
    options: dict[str, Any] = {
        "groups": ["a", "b"], "false_accept_rate": 0.1, "function_to_apply": "softmax", "num_clips": 1, "num_crops": 1,
        "criterion": "score", "per_label": False, "model": "demo",
    }  # fmt: skip
    for calibrate in (sports.calibrate, sports.try_calibration):
        with pytest.raises(ProblemError):  # two clips are not enough
            calibrate([clip, clip], [LABELS[0], None], **options)
    assert {"copy", "sports"} <= {item["name"] for item in client.vocabularies(page_size=1)}
    sports.delete()


def use_administration(client: Client, clip: Path) -> None:
    assert client.models()["default"] == "demo@1"
    assert client.activate_model("demo", version=1, alias="live")["is_done"]
    with pytest.raises(ProblemError, match="previous"):
        client.roll_back_model("demo")
    details = {"vocabulary": "demo", "predicted": LABELS[1], "request_id": "r-1", "note": "a remark"}
    row = client.send_feedback(clip, LABELS[0], **details)
    client.send_feedback(clip, LABELS[1])
    assert row["id"] in {item["id"] for item in client.feedback(page_size=1)}
    client.delete_feedback(row["id"])
    assert client.is_alive() and client.is_ready()
    assert client.limits()["max_upload_bytes"] > 0
    assert "# HELP" in client.metrics()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the operations by name, without those of the Open Inference Protocol, which has clients of its own."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not is_inference_path(path)
    }


def declared_names(operation: dict[str, Any]) -> set[str]:
    """Return the parameters (without those of the path) and the members of all bodies of an operation."""
    names = {item["name"] for item in operation.get("parameters", ()) if item["in"] != "path"}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        names |= set(content["schema"].get("properties", ()))
    return names


def response_types(operation: dict[str, Any]) -> set[str]:
    return {
        reference.rpartition("/")[2]
        for status, response in operation["responses"].items()
        if status.startswith("2") and "application/json" in response.get("content", {})
        for reference in re.findall(
            r'"\$ref": "([^"]+)"', json.dumps(response["content"]["application/json"]["schema"])
        )
    }


def test_the_generated_modules_are_up_to_date() -> None:
    outdated = [path.name for path, text in generate().items() if path.read_text(encoding="utf-8") != text]
    assert not outdated, f"{outdated}; run `python -m serve.client_source`"


def test_the_types_are_those_of_the_running_server(document: dict[str, Any]) -> None:
    from serve.client import types

    theirs: dict[str, Any] = {}
    for text in types_modules(document).values():
        namespace: dict[str, Any] = {}
        exec(text, namespace)
        defined = {name: value for name, value in namespace.items() if hasattr(value, "__required_keys__")}
        theirs |= {name: value for name, value in defined.items() if not value.__module__.startswith(SCHEMAS)}
    assert "Classification" in theirs
    assert theirs.keys() == set(types.__all__)
    for name, value in theirs.items():
        ours = getattr(types, name)
        assert ours.__annotations__.keys() == value.__annotations__.keys()
        assert ours.__required_keys__ == value.__required_keys__


def test_every_operation_has_a_method(recorder: Recorder) -> None:
    assert recorder.sent.keys() == operations(recorder.document).keys()


def test_every_parameter_and_field_is_sent_and_declared(recorder: Recorder) -> None:
    for name, operation in operations(recorder.document).items():
        declared = declared_names(operation)
        left_out = {item for item in declared - recorder.sent[name] if (name, item) not in NOT_SENT}
        left_out -= {"X-Request-Timeout"}  # the client waits for its own `timeout_seconds`
        assert not left_out, f"{name}: no method sends {sorted(left_out)}"
        sent = recorder.sent[name] - {"Content-Type", "Prefer"}
        assert sent <= declared, f"{name}: the document lacks {sorted(sent - declared)}"


def test_every_response_has_its_declared_type(recorder: Recorder) -> None:
    for name, kinds in recorder.kinds.items():
        assert kinds <= response_types(operations(recorder.document)[name]), name
