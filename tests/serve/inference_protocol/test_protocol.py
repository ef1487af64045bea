"""The Open Inference Protocol: Triton's client, the documents of the protocol, and bodies that mean harm."""

import base64
import json
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

from serve.arrays import UInt8Array
from serve.repository import BUNDLED_REPOSITORY, find_contract
from serve.video.decode import load_views
from serve.video.limits import DecodeSettings
from serve.video.view_request import ViewRequest
from tests.running_server import RunningServer

TEXTS = ["a person in red walking to the left", "été, 拍手"]
LABELS = ["a person in red walking to the left", "a person in blue clapping", "a person in red walking to the right"]
TENSOR = {"name": str, "datatype": str, "shape": list}
HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def triton() -> ModuleType:
    """Triton's own client over HTTP."""
    pytest.importorskip("geventhttpclient", reason="tritonclient over HTTP needs geventhttpclient")
    import tritonclient.http

    module: ModuleType = tritonclient.http
    return module


@pytest.fixture(scope="module")
def client(triton: ModuleType, demo_server: RunningServer) -> Any:
    return triton.InferenceServerClient(demo_server.address.removeprefix("http://"), network_timeout=300.0)


@pytest.fixture(scope="module")
def views(demo_clip: Path) -> UInt8Array:
    """Views of the clip: two clips, one crop, by the rules of the model."""
    contract = find_contract(BUNDLED_REPOSITORY, "demo")
    request = ViewRequest(sampling=contract.sampling, preprocess=contract.preprocess, num_clips=2, num_crops=1)
    return load_views(demo_clip, request, settings=DecodeSettings()).views


def classified(http: httpx.Client, clip: Path, **fields: str) -> list[dict[str, Any]]:
    with clip.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream}, data=fields)
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def embedded(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.array([item["embedding"] for item in response.json()["data"]], np.float32)


def infer(http: httpx.Client, model: str, document: Any, binary: bytes = b"", **headers: str) -> httpx.Response:
    """Send a request; with binary data, the JSON part has its length in the header unless `headers` has another."""
    part = json.dumps(document).encode()
    if binary:
        headers = {HEADER: str(len(part)), **headers}
    return http.post(f"/v2/models/{model}/infer", content=part + binary, headers=headers)


def video_input(clip: Path, **parameters: Any) -> dict[str, Any]:
    data = base64.b64encode(clip.read_bytes()).decode()
    return {
        "name": "video", "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64", **parameters},
        "data": [data],
    }  # fmt: skip


def assert_same_results(result: Any, expected: list[dict[str, Any]]) -> None:
    assert [label.decode() for label in result.as_numpy("label")] == [item["label"] for item in expected]
    for output, member in (("probability", "score"), ("logit", "logit"), ("cosine", "cosine")):
        numbers = np.array([item[member] for item in expected], np.float32)
        np.testing.assert_array_equal(result.as_numpy(output), numbers, err_msg=output)
    assert result.as_numpy("accepted").tolist() == [item["accepted"] for item in expected]


def test_triton_s_client_reads_status_and_metadata(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("demo") and client.is_model_ready("demo_text", "1")
    assert not client.is_model_ready("absent") and not client.is_model_ready("demo", "7")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("demo_video", "1")
    assert metadata["name"] == "demo_video" and metadata["versions"] == ["1"]
    assert {"name": "frames", "datatype": "UINT8", "shape": [-1, 8, 3, 80, 80]} in metadata["inputs"]


@pytest.mark.parametrize("shape", [[1], [1, 1]], ids=["one", "batch of one"])
def test_triton_s_client_classifies_a_video(
    shape: list[int], triton: ModuleType, client: Any, http: httpx.Client, demo_clip: Path
) -> None:
    video = triton.InferInput("video", shape, "BYTES")
    video.set_data_from_numpy(np.array([demo_clip.read_bytes()], dtype=object).reshape(shape))
    options = {"candidate_labels": json.dumps(LABELS), "num_clips": 2, "top_k": 3}
    result = client.infer("demo", [video], parameters=options, request_id="mine")
    assert_same_results(result, classified(http, demo_clip, **{name: str(value) for name, value in options.items()}))
    assert result.get_response()["id"] == "mine" and result.get_response()["model_version"] == "1"


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "JSON"])
def test_triton_s_client_sends_views(
    is_binary: bool, triton: ModuleType, client: Any, http: httpx.Client, demo_clip: Path, views: UInt8Array
) -> None:
    frames = triton.InferInput("frames", list(views.shape), "UINT8")
    frames.set_data_from_numpy(views, binary_data=is_binary)
    assert_same_results(client.infer("demo", [frames]), classified(http, demo_clip, num_clips="2"))
    outputs = [triton.InferRequestedOutput(name, binary_data=is_binary) for name in ("embedding", "video_features")]
    result = client.infer("demo_video", [frames], "1", outputs=outputs)
    with demo_clip.open("rb") as stream:
        expected = embedded(http.post("/v1/embeddings", files={"video": stream}, data={"num_clips": "2"}))
    np.testing.assert_array_equal(result.as_numpy("embedding"), expected)
    assert result.as_numpy("video_features").shape == (2, 128)


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "JSON"])
def test_triton_s_client_encodes_texts(is_binary: bool, triton: ModuleType, client: Any, http: httpx.Client) -> None:
    texts = triton.InferInput("text", [2], "BYTES")
    texts.set_data_from_numpy(np.array([text.encode() for text in TEXTS], dtype=object), binary_data=is_binary)
    result = client.infer("demo_text", [texts])
    for output, is_normalized in (("embedding", True), ("text_features", False)):
        expected = embedded(http.post("/v1/embeddings", json={"input": TEXTS, "normalize": is_normalized}))
        np.testing.assert_array_equal(result.as_numpy(output), expected)


def test_triton_s_client_reads_errors(triton: ModuleType, client: Any) -> None:
    from tritonclient.utils import InferenceServerException

    texts = triton.InferInput("text", [1], "BYTES")
    texts.set_data_from_numpy(np.array([b""], dtype=object))
    with pytest.raises(InferenceServerException) as caught:
        client.infer("demo_text", [texts])
    assert (caught.value.status(), caught.value.message()) == ("422", "text 0 is empty")


def test_a_video_in_json_is_base64(http: httpx.Client, demo_clip: Path) -> None:
    response = infer(http, "demo", {"inputs": [video_input(demo_clip)], "parameters": {"top_k": 2}})
    assert response.status_code == 200, response.text
    outputs = {item["name"]: item["data"] for item in response.json()["outputs"]}
    expected = classified(http, demo_clip, top_k="2")
    assert outputs["label"] == [item["label"] for item in expected]
    assert np.float32(outputs["probability"]).tolist() == np.float32([item["score"] for item in expected]).tolist()


def test_without_a_function_there_is_no_probability(http: httpx.Client, demo_clip: Path) -> None:
    document = {"inputs": [video_input(demo_clip)], "parameters": {"function_to_apply": "none"}}
    names = [item["name"] for item in infer(http, "demo", document).json()["outputs"]]
    assert names == ["label", "logit", "cosine", "accepted"]
    refused = infer(http, "demo", {**document, "outputs": [{"name": "probability"}]})
    assert refused.status_code == 422 and "function_to_apply" in refused.json()["error"]


def assert_members(document: Any, required: dict[str, type], optional: dict[str, type]) -> None:
    """Check the members of an object of the protocol and their types."""
    assert required.keys() <= document.keys() <= required.keys() | optional.keys(), document
    for name, value in document.items():
        assert isinstance(value, {**required, **optional}[name]), (name, value)


def test_documents_are_those_of_the_protocol(http: httpx.Client) -> None:
    assert_members(http.get("/v2").json(), {"name": str, "version": str, "extensions": list}, {})
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2/models/demo/ready").json() == {"name": "demo", "ready": True}
    for path in ("/v2/models/demo", "/v2/models/demo_text", "/v2/models/default_video/versions/1"):
        metadata = http.get(path).json()
        assert_members(metadata, {"name": str, "platform": str}, {"versions": list, "inputs": list, "outputs": list})
        for tensor in [*metadata["inputs"], *metadata["outputs"]]:
            assert_members(tensor, TENSOR, {})
            assert all(type(size) is int and size >= -1 for size in tensor["shape"])
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]
    response = infer(http, "demo_text/versions/1", {"id": "x", "inputs": inputs}).json()
    assert_members(response, {"model_name": str, "outputs": list}, {"model_version": str, "id": str})
    for output in response["outputs"]:
        assert_members(output, {**TENSOR, "data": list}, {})
        assert len(output["data"]) == np.prod(output["shape"])


@pytest.mark.parametrize(("method", "path", "status", "slug"), [
    ("GET", "/v2/models/absent", 404, "unknown-model"), ("GET", "/v2/models/demo/versions/9", 404, "unknown-model"),
    ("GET", "/v2/models/demo/versions/latest", 404, "unknown-model"),
    ("GET", "/v2/models/demo@1", 404, "unknown-model"),
    ("GET", "/v2/models/_video", 404, "unknown-model"), ("POST", "/v2/models/absent/infer", 404, "unknown-model"),
    ("GET", "/v2/nothing", 404, "not-found"), ("DELETE", "/v2/models/demo", 405, "method-not-allowed"),
    ("GET", "/v2/models/demo?x=1", 422, "invalid-option"), ("GET", "/v2/models/demo?x=%ff", 422, "invalid-option"),
])  # fmt: skip
def test_errors_have_the_shape_of_the_protocol(
    method: str, path: str, status: int, slug: str, http: httpx.Client
) -> None:
    response = http.request(method, path, headers={"X-Request-Id": "mine-7"})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error = response.json()
    assert isinstance(error["error"], str) and error["error"] and "detail" not in error
    assert (error["type"], error["request_id"]) == (f"/problems/{slug}", "mine-7")
    assert response.headers["x-request-id"] == "mine-7"


def test_a_page_of_another_origin_gets_an_error_of_the_protocol(http: httpx.Client) -> None:
    response = http.post("/v2/models/demo/infer", headers={"Origin": "http://evil.example"})
    assert response.status_code == 403 and "evil.example" in response.json()["error"]


def text(**changes: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"], **changes}


def frames(**changes: Any) -> dict[str, Any]:
    return {"name": "frames", "datatype": "UINT8", "shape": [1, 8, 3, 80, 80], "data": [0], **changes}


HOSTILE = {
    "not JSON": ("demo_text", "{"),
    "list": ("demo_text", []),
    "no inputs": ("demo_text", {"inputs": []}),
    "two inputs": ("demo_text", {"inputs": [text(), text()]}),
    "unknown member": ("demo_text", {"inputs": [text()], "priority": 1}),
    "unknown parameter": ("demo_text", {"inputs": [text()], "parameters": {"sequence_id": 1}}),
    "parameter of another model": ("demo_text", {"inputs": [text()], "parameters": {"top_k": 1}}),
    "clips of views": ("demo", {"inputs": [frames()], "parameters": {"num_clips": 2}}),
    "store": ("demo", {"inputs": [frames()], "parameters": {"store": True}}),
    "model": ("demo", {"inputs": [frames()], "parameters": {"model": "demo"}}),
    "nested parameter": ("demo_text", {"inputs": [text()], "parameters": {"a": {}}}),
    "unknown input": ("demo_text", {"inputs": [text(name="tokens")]}),
    "datatype": ("demo_text", {"inputs": [text(datatype="INT64")]}),
    "datatype of views": ("demo", {"inputs": [frames(datatype="FP32")]}),
    "rank": ("demo_text", {"inputs": [text(shape=[])]}),
    "high rank": ("demo_text", {"inputs": [text(shape=[1] * 9)]}),
    "negative": ("demo_text", {"inputs": [text(shape=[-1])]}),
    "huge": ("demo_text", {"inputs": [text(shape=[2**40])]}),
    "beyond 64 bits": ("demo_text", {"inputs": [text(shape=[2**70])]}),
    "fraction": ("demo_text", {"inputs": [text(shape=[1.5])]}),
    "true": ("demo_text", {"inputs": [text(shape=[True])]}),
    "other size": ("demo", {"inputs": [frames(shape=[1, 8, 3, 81, 80])]}),
    "no views": ("demo", {"inputs": [frames(shape=[0, 8, 3, 80, 80], data=[])]}),
    "too many views": ("demo", {"inputs": [frames(shape=[31, 8, 3, 80, 80])]}),
    "views beyond memory": ("demo", {"inputs": [frames(shape=[2**31 - 1, 8, 3, 80, 80])]}),
    "too few elements": ("demo", {"inputs": [frames()]}),
    "ragged": ("demo_text", {"inputs": [text(shape=[2, 1], data=[["a"], ["b", "c"]])]}),
    "too deep": ("demo_text", {"inputs": [text(data=[["a"]])]}),
    "numbers": ("demo_text", {"inputs": [text(data=[1])]}),
    "no text": ("demo_text", {"inputs": [text(shape=[0], data=[])]}),
    "NUL": ("demo_text", {"inputs": [text(data=["a\0"])]}),
    "many texts": ("demo_text", {"inputs": [text(shape=[1001], data=["a"] * 1001)]}),
    "no data": ("demo_text", {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1]}]}),
    "both forms": ("demo_text", {"inputs": [text(parameters={"binary_data_size": 5})]}),
    "shared memory": ("demo_text", {"inputs": [text(parameters={"shared_memory_region": "a"})]}),
    "content type": ("demo_text", {"inputs": [text(parameters={"content_type": "text"})]}),
    "video as text": ("demo", {"inputs": [text(name="video")]}),
    "not base64": ("demo", {"inputs": [text(name="video", data=["?"], parameters={"content_type": "base64"})]}),
    "two videos": ("demo", {"inputs": [text(name="video", shape=[2], data=["", ""])]}),
    "unknown output": ("demo_text", {"inputs": [text()], "outputs": [{"name": "tokens"}]}),
    "output twice": ("demo_text", {"inputs": [text()], "outputs": [{"name": "embedding"}] * 2}),
    "classes": ("demo_text", {"inputs": [text()], "outputs": [{"name": "embedding", "parameters": {"x": 1}}]}),
    "binary as text": ("demo_text", {"inputs": [text()], "parameters": {"binary_data_output": "yes"}}),
}  # fmt: skip


@pytest.mark.parametrize(("model", "document"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_request_that_means_nothing_is_refused(model: str, document: Any, http: httpx.Client) -> None:
    response = infer(http, model, document)
    assert 400 <= response.status_code < 500, response.text
    assert len(response.json()["error"]) > 10


def sized(size: Any, **changes: Any) -> dict[str, Any]:
    """A request whose only input has binary data."""
    tensor = {key: value for key, value in text(**changes).items() if key != "data"}
    return {"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}


def element(data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<I", len(data) if length is None else length) + data


VIDEO, VIEWS = {"name": "video"}, {"name": "frames", "datatype": "UINT8", "shape": [1, 8, 3, 80, 80]}
HOSTILE_BINARY = {
    "size as text": ("demo_text", sized("5"), element(b"a"), {}),
    "negative size": ("demo_text", sized(-1), element(b"a"), {}),
    "body too short": ("demo_text", sized(50), element(b"a"), {}),
    "body too long": ("demo_text", sized(5), element(b"ab"), {}),
    "element too long": ("demo_text", sized(5), element(b"a", 2**32 - 1), {}),
    "half a length": ("demo_text", sized(2), b"ab", {}),
    "two elements": ("demo_text", sized(10), element(b"a") * 2, {}),
    "not UTF-8": ("demo_text", sized(5), element(b"\xff"), {}),
    "texts beyond the limit": ("demo_text", sized(2**40), element(b"a"), {}),
    "video without length": ("demo", sized(2, **VIDEO), b"ab", {}),
    "video of another length": ("demo", sized(5, **VIDEO), element(b"a", 2), {}),
    "two videos": ("demo", sized(10, **VIDEO), element(b"a") * 2, {}),
    "video too short": ("demo", sized(100, **VIDEO), element(b"a", 96), {}),
    "bytes after a video": ("demo", sized(5, **VIDEO), element(b"abc", 1), {}),
    "video beyond the limit": ("demo", sized(2**40, **VIDEO), element(b"a"), {}),
    "not a video": ("demo", sized(7, **VIDEO), element(b"abc"), {}),
    "size of views": ("demo", sized(10, **VIEWS), b"0123456789", {}),
    "views too short": ("demo", sized(8 * 3 * 80 * 80, **VIEWS), b"0123456789", {}),
    "header beyond the body": ("demo_text", sized(5), element(b"a"), {HEADER: "100000"}),
    "header inside of the JSON part": ("demo_text", sized(5), element(b"a"), {HEADER: "20"}),
    "header beyond the limit": ("demo_text", sized(5), element(b"a"), {HEADER: "99999999999"}),
    "header of nothing": ("demo_text", sized(5), element(b"a"), {HEADER: "0"}),
    "negative header": ("demo_text", sized(5), element(b"a"), {HEADER: "-1"}),
    "header of other digits": ("demo_text", sized(5), element(b"a"), {HEADER: "1e2"}),
    "form": ("demo_text", sized(5), element(b"a"), {"Content-Type": "application/x-www-form-urlencoded"}),
    "compressed": ("demo_text", sized(5), element(b"a"), {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize(("model", "document", "binary", "headers"), HOSTILE_BINARY.values(), ids=HOSTILE_BINARY.keys())
def test_binary_data_that_does_not_fit_is_refused(
    model: str, document: Any, binary: bytes, headers: dict[str, str], http: httpx.Client
) -> None:
    response = infer(http, model, document, binary, **headers)
    assert 400 <= response.status_code < 500, response.text
    assert len(response.json()["error"]) > 10
    assert http.get("/v2/health/ready").status_code == 200


def test_a_header_beyond_a_chunked_body_is_refused(http: httpx.Client) -> None:
    body = iter([b'{"inputs"', b": []}"])
    response = http.post("/v2/models/demo/infer", content=body, headers={HEADER: "1000"})
    assert response.status_code == 422 and "ends 986 bytes before the end of the JSON part" in response.json()["error"]


def test_json_beyond_the_limit_is_refused_while_it_arrives(http: httpx.Client) -> None:
    body = (b" " * 2**20 for _ in range(20))
    response = http.post("/v2/models/demo/infer", content=body)
    assert response.status_code == 413 and "binary data" in response.json()["error"]
