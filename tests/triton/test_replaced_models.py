"""A model replaced behind its version number: parity runs again before a server that loaded it is used."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serve.errors import EngineUnavailable
from serve.models.runtime import ModelRuntime, load_runtime
from serve.settings import ServeSettings, TritonSettings
from tests.running_server import running_server
from tests.triton.core import TritonCore, free_ports, needs_triton, triton_core
from tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = [pytest.mark.triton, needs_triton()]
EXPLICIT = ("--model-control-mode=explicit",)
POLLING = ("--model-control-mode=poll", "--repository-poll-secs=1")


@pytest.fixture
def served(triton_repository: Path, tmp_path: Path) -> Path:
    """A repository of its own for the server: what is replaced there is not what the gateway compares with."""
    for part in ("text", "video"):
        shutil.copytree(triton_repository / f"tiny_{part}", tmp_path / "served" / f"tiny_{part}")
    return tmp_path / "served"


@pytest.fixture
def ours(triton_repository: Path, tmp_path: Path) -> Path:
    """The gateway's repository, with the contract and the parity clips."""
    for part in ("text", "video"):
        shutil.copytree(triton_repository / f"tiny_{part}", tmp_path / "ours" / f"tiny_{part}")
    return tmp_path / "ours"


def replace(repository: Path, *, part: str = "video", version: int = 1) -> bytes:
    """Another model of the same tensors in place of a version's; returns what was there."""
    path = repository / f"tiny_{part}" / str(version) / "model.onnx"
    original = path.read_bytes()
    model = onnx.load(path)
    for weights in model.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.ndim == 2:
            shaken = values + np.random.default_rng(1).normal(0, 0.3 * values.std() + 1e-3, values.shape)
            weights.CopyFrom(numpy_helper.from_array(shaken.astype(np.float32), weights.name))
    path.write_bytes(model.SerializeToString())
    assert path.read_bytes() != original
    return original


def put_back(repository: Path, original: bytes, *, part: str = "video") -> None:
    (repository / f"tiny_{part}" / "1" / "model.onnx").write_bytes(original)


def reload(core: TritonCore, part: str = "video") -> None:
    httpx.post(
        f"{core.http}/v2/repository/models/tiny_{part}/load", json={}, timeout=PATIENCE_SECONDS
    ).raise_for_status()


@pytest.fixture
def core(served: Path, tmp_path: Path) -> Iterator[TritonCore]:
    with triton_core(served, tmp_path / "core", options=EXPLICIT) as running:
        yield running


@pytest.fixture
def connect(ours: Path, tmp_path: Path) -> Callable[[str], Any]:
    async def connect(url: str) -> ModelRuntime:
        triton = TritonSettings(url=url, load_timeout_seconds=PATIENCE_SECONDS)
        settings = ServeSettings(repository=ours, cache_dir=tmp_path / "cache", engine="triton", triton=triton)
        return await load_runtime(settings, "tiny@1")

    return connect


@pytest.fixture
async def runtime(connect: Callable[[str], Any], core: TritonCore) -> AsyncIterator[ModelRuntime]:
    loaded = await connect(core.grpc)
    yield loaded
    await loaded.close()


def views(runtime: ModelRuntime) -> np.ndarray:
    size, frames = runtime.contract.preprocess.image_size, runtime.contract.sampling.num_segments
    return np.random.default_rng(0).integers(0, 256, (2, frames, 3, size, size), dtype=np.uint8)


async def encode(runtime: ModelRuntime) -> np.ndarray:
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    return (await runtime.engine.encode_video(views(runtime), deadline=deadline)).video_features


async def until(runtime: ModelRuntime, condition: Callable[[str | None], bool]) -> str | None:
    """The engine's fault once it meets a condition."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition(runtime.engine.fault):
            await asyncio.sleep(0.02)
    return runtime.engine.fault


def is_refused(fault: str | None) -> bool:
    return fault is not None and "tiny@1 on triton failed the parity check" in fault


@pytest.mark.parametrize("part", ["video", "text"])
async def test_a_reloaded_file_answers_nothing_until_its_parity_holds(
    runtime: ModelRuntime, core: TritonCore, served: Path, part: str
) -> None:
    expected = await encode(runtime)
    original = replace(served, part=part)
    asking = asyncio.create_task(ask_until_refused(runtime))
    await asyncio.to_thread(reload, core, part)
    fault = await until(runtime, is_refused)
    assert "lowest cosine" in str(fault)
    for answer in await asking:
        np.testing.assert_allclose(answer, expected, atol=1e-5)
    with pytest.raises(EngineUnavailable, match="differs from the contract"):
        await encode(runtime)
    with pytest.raises(EngineUnavailable):
        await runtime.engine.encode_text(np.zeros((1, runtime.contract.text.context_length), np.int64))
    put_back(served, original, part=part)
    await asyncio.to_thread(reload, core, part)
    assert await until(runtime, lambda fault: fault is None) is None
    np.testing.assert_allclose(await encode(runtime), expected, atol=1e-5)


async def ask_until_refused(runtime: ModelRuntime) -> list[np.ndarray]:
    """Every answer that was given until the engine refused the model."""
    answers = []
    while not is_refused(runtime.engine.fault):
        try:
            answers.append(await encode(runtime))
        except EngineUnavailable:
            await asyncio.sleep(0.01)
    assert answers
    return answers


async def test_without_requests_a_reload_is_noticed_too(runtime: ModelRuntime, core: TritonCore, served: Path) -> None:
    replace(served)
    await asyncio.to_thread(reload, core)
    assert is_refused(await until(runtime, is_refused))


async def test_the_first_request_after_a_reload_is_not_answered_by_it(
    connect: Callable[[str], Any], core: TritonCore, served: Path
) -> None:
    """Whatever the watch has seen by then: it is stopped here."""
    runtime = await connect(core.grpc)
    await encode(runtime)
    runtime.engine._watch_task.cancel()
    replace(served)
    await asyncio.to_thread(reload, core)
    with pytest.raises(EngineUnavailable, match="reloaded the model"):
        await encode(runtime)
    assert "reloaded the model" in runtime.engine.fault
    with pytest.raises(EngineUnavailable, match="parity check is running"):
        await encode(runtime)
    await runtime.close()


async def test_a_reload_of_the_same_file_is_used_again(runtime: ModelRuntime, core: TritonCore, served: Path) -> None:
    expected = await encode(runtime)
    path = served / "tiny_video" / "1" / "model.onnx"
    path.write_bytes(path.read_bytes())  # another time of change: the server loads it again
    await asyncio.to_thread(reload, core)
    with pytest.raises(EngineUnavailable):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                np.testing.assert_allclose(await encode(runtime), expected, atol=1e-5)
    assert await until(runtime, lambda fault: fault is None) is None
    np.testing.assert_allclose(await encode(runtime), expected, atol=1e-5)


async def test_another_precision_than_at_the_start_is_refused(
    runtime: ModelRuntime, core: TritonCore, served: Path
) -> None:
    path = served / "tiny_video" / "config.pbtxt"
    half = (
        'optimization { execution_accelerators { gpu_execution_accelerator : [ { name : "tensorrt" '
        'parameters { key: "precision_mode" value: "FP16" } } ] } }'
    )
    path.write_text(f"{path.read_text()}\n{half}\n")
    await asyncio.to_thread(reload, core)
    fault = await until(runtime, lambda fault: fault is not None and "activate" in fault)
    assert "triton-fp16" in str(fault)


async def test_versions_of_one_name_are_not_loaded_anew_when_another_comes_or_goes(
    connect: Callable[[str], Any], core: TritonCore, ours: Path, tmp_path: Path
) -> None:
    first = await connect(core.grpc)
    expected, epoch = await encode(first), first.engine._instances.epoch
    settings = ServeSettings(
        repository=ours, cache_dir=tmp_path / "cache", engine="triton", triton=TritonSettings(url=core.grpc)
    )
    second = await load_runtime(settings, "tiny@2")
    np.testing.assert_array_equal(await encode(first), expected)
    await second.engine.unload()
    await second.close()
    np.testing.assert_array_equal(await encode(first), expected)
    assert first.engine._instances.epoch == epoch
    await first.close()


def ask(http: httpx.Client, clip: Path) -> httpx.Response:
    with clip.open("rb") as stream:
        options = json.dumps({"candidate_labels": ["clapping", "yawning"]})
        return http.post("/v1/classify", files={"video": stream}, data={"options": options})


def logits(answer: httpx.Response) -> list[float]:
    return [row["logit"] for row in sorted(answer.json()["results"], key=lambda row: row["label"])]


def gateway_of(ours: Path, grpc: str) -> dict[str, str]:
    return {"SERVE_REPOSITORY": str(ours), "SERVE_MODEL": "tiny@1", "SERVE_ENGINE": "triton", "SERVE_TRITON__URL": grpc}


def test_a_restart_with_another_file_is_refused_by_the_gateway(
    served: Path, ours: Path, demo_clip: Path, tmp_path: Path
) -> None:
    ports = free_ports()
    with (
        triton_core(served, tmp_path / "core", options=EXPLICIT, ports=ports) as core,
        running_server(tmp_path / "cache", **gateway_of(ours, core.grpc)) as gateway,
        httpx.Client(base_url=gateway.address, timeout=PATIENCE_SECONDS) as http,
    ):
        expected = logits(ask(http, demo_clip))
        answers, stop = [], threading.Event()
        asking = threading.Thread(target=lambda: keep_asking(http, demo_clip, answers, stop))
        asking.start()
        core.kill()
        original = replace(served)
        with triton_core(served, tmp_path / "core", options=EXPLICIT, ports=ports):
            assert eventually(lambda: "failed the parity check" in http.get("/readyz").json().get("detail", ""))
            assert http.get("/readyz").status_code == 503
            refused = ask(http, demo_clip)
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/engine-unavailable")
            assert "contract" in refused.json()["detail"]
            put_back(served, original)
            httpx.post(
                f"http://127.0.0.1:{ports.http}/v2/repository/models/tiny_video/load", json={}, timeout=PATIENCE_SECONDS
            )
            assert eventually(lambda: http.get("/readyz").status_code == 200)
        stop.set()
        asking.join()
    given = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 503, 504}
    for answer in given:
        assert logits(answer) == pytest.approx(expected, abs=2e-4)


def test_a_server_that_polls_its_repository_is_followed(
    served: Path, ours: Path, demo_clip: Path, tmp_path: Path
) -> None:
    with (
        triton_core(served, tmp_path / "core", options=POLLING) as core,
        running_server(tmp_path / "cache", **gateway_of(ours, core.grpc)) as gateway,
        httpx.Client(base_url=gateway.address, timeout=PATIENCE_SECONDS) as http,
    ):
        assert ask(http, demo_clip).status_code == 200
        original = replace(served)
        assert eventually(lambda: "failed the parity check" in http.get("/readyz").json().get("detail", ""))
        assert ask(http, demo_clip).status_code == 503
        put_back(served, original)
        assert eventually(lambda: http.get("/readyz").status_code == 200)
        assert ask(http, demo_clip).status_code == 200


def keep_asking(http: httpx.Client, clip: Path, answers: list[httpx.Response], stop: threading.Event) -> None:
    while not stop.is_set():
        answers.append(ask(http, clip))
        time.sleep(0.01)  # leaves the processor to the server
