"""A server whose queue is short and slow: overload is refused, late work ends, a version that cannot load is named."""

import asyncio
import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.triton_config import (
    DynamicBatching,
    TensorRtAccelerator,
    accelerated_text,
    config_text,
    graph_config,
)
from serve.errors import ContractError, DeadlineExceeded, Overloaded
from serve.files import file_sha256
from serve.models.runtime import ModelRuntime, load_runtime
from serve.repository import contract_path, read_version
from serve.settings import ServeSettings, TritonSettings
from tests.running_server import running_server
from tests.tolerances import assert_close
from tests.triton.core import RestartedCore, TritonCore, needs_triton
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.triton, needs_triton()]

BATCH, DELAY_SECONDS = 8, 4.0  # fewer views wait that long for company
QUEUE = 4  # requests; fewer than would fill a batch
VARIANT = "patient"  # of the configurations; the server is started with it


@pytest.fixture(scope="module")
def patient_repository(triton_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny@1` with a configuration beside its own, and `tiny@2` whose graph is no ONNX, by its own contract."""
    folder = tmp_path_factory.mktemp("patient")
    for part in ("text", "video"):
        shutil.copytree(triton_repository / f"tiny_{part}", folder / f"tiny_{part}")
        (folder / f"tiny_{part}" / "configs").mkdir()
    contract = read_version(folder, "tiny", 1)
    waiting = DynamicBatching(preferred_batch_size=(BATCH,), max_queue_delay_microseconds=int(DELAY_SECONDS * 1e6))
    video = graph_config("tiny_video", contract.graphs["video"], max_batch_size=BATCH)
    text = graph_config("tiny_text", contract.graphs["text"], max_batch_size=64)
    half = TensorRtAccelerator(parameters={"precision_mode": "FP16"})
    written = {
        "video": _with_short_queue(config_text(dataclasses.replace(video, dynamic_batching=waiting))),
        "text": accelerated_text(text, half, []),
    }
    for part, content in written.items():
        (folder / f"tiny_{part}" / "configs" / f"{VARIANT}.pbtxt").write_text(content)
    _break(folder, version=2)
    return folder


def _with_short_queue(text: str) -> str:
    """A configuration whose server refuses what does not fit into `QUEUE`, and lets a caller ask for less waiting."""
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    policy = config.dynamic_batching.default_queue_policy
    policy.max_queue_size, policy.allow_timeout_override = QUEUE, True
    return text_format.MessageToString(config)


def _break(repository: Path, *, version: int) -> None:
    graph, path = repository / "tiny_video" / str(version) / "model.onnx", contract_path(repository, "tiny", version)
    graph.write_bytes(graph.read_bytes()[:1000])
    document = json.loads(path.read_text())
    document["graphs"]["video"]["sha256"] = file_sha256(graph)
    path.write_text(json.dumps(document))


@pytest.fixture(scope="module")
def restarted(patient_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestartedCore]:
    options = ("--model-control-mode=explicit", f"--model-config-name={VARIANT}")
    core = RestartedCore(patient_repository, tmp_path_factory.mktemp("core"), options)
    yield core
    core.close()


@pytest.fixture
def patient(restarted: RestartedCore) -> TritonCore:
    return restarted.running()


@pytest.fixture
def settings(patient: TritonCore, patient_repository: Path, tmp_path: Path) -> ServeSettings:
    triton = TritonSettings(url=patient.grpc, config_name=VARIANT)
    return ServeSettings(repository=patient_repository, cache_dir=tmp_path / "cache", engine="triton", triton=triton)


@pytest.fixture
async def runtime(settings: ServeSettings) -> AsyncIterator[ModelRuntime]:
    loaded = await load_runtime(settings, "tiny@1")
    yield loaded
    await loaded.close()


def views(runtime: ModelRuntime, count: int) -> np.ndarray:
    size, frames = runtime.contract.preprocess.image_size, runtime.contract.sampling.num_segments
    return np.random.default_rng(0).integers(0, 256, (count, frames, 3, size, size), dtype=np.uint8)


async def encode(runtime: ModelRuntime, asked: np.ndarray, *, seconds: float = 60) -> Any:
    deadline = asyncio.get_running_loop().time() + seconds
    return await runtime.engine.encode_video(asked, deadline=deadline)


async def test_what_does_not_fit_into_the_queue_is_overload(runtime: ModelRuntime) -> None:
    asked = views(runtime, 1)
    answers = await asyncio.gather(*(encode(runtime, asked) for _ in range(12)), return_exceptions=True)
    kinds = Counter(type(answer).__name__ for answer in answers)
    assert set(kinds) == {"VideoFeatures", Overloaded.__name__}, kinds
    assert kinds["VideoFeatures"] >= QUEUE


async def test_a_request_ends_at_its_deadline_while_the_server_lets_it_wait(runtime: ModelRuntime) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        await encode(runtime, views(runtime, 1), seconds=0.4)
    assert asyncio.get_running_loop().time() - started < DELAY_SECONDS


async def test_more_views_than_a_batch_go_in_several_calls(runtime: ModelRuntime) -> None:
    asked = views(runtime, 2 * BATCH + 1)
    before = Counter(runtime.engine.batch_sizes)
    together = (await encode(runtime, asked)).video_features
    assert Counter(runtime.engine.batch_sizes) - before == {BATCH: 2, 1: 1}
    first = (await encode(runtime, asked[:BATCH])).video_features
    assert_close(together[:BATCH], first)
    assert together.shape == (len(asked), runtime.contract.embed_dim)


async def test_a_version_that_cannot_be_loaded_is_reported_at_once_and_the_other_serves_on(
    runtime: ModelRuntime, settings: ServeSettings, patient: TritonCore
) -> None:
    async with asyncio.timeout(settings.triton.load_timeout_seconds / 4):
        with pytest.raises(ContractError, match="Triton cannot load tiny_video version 2"):
            await load_runtime(settings, "tiny@2")
    asked = views(runtime, BATCH)
    assert (await encode(runtime, asked)).video_features.shape[0] == BATCH
    url = f"{patient.http}/v2/models/tiny_video/versions/1/config"
    configuration = (await asyncio.to_thread(httpx.get, url)).json()
    assert configuration["max_batch_size"] == BATCH, "the variant the server was started with"


async def test_a_model_the_server_does_not_have_is_reported_at_once(
    settings: ServeSettings, triton_repository: Path
) -> None:
    async with asyncio.timeout(settings.triton.load_timeout_seconds / 4):
        with pytest.raises(ContractError, match="Triton cannot load demo_text version 1"):
            await load_runtime(settings.model_copy(update={"repository": triton_repository}), "demo@1")


async def test_a_configuration_with_fp16_is_held_to_that_precision(runtime: ModelRuntime) -> None:
    assert runtime.engine.name == "triton-fp16"
    assert runtime.parity.engine == "triton-fp16"


def test_overload_and_deadline_reach_the_callers(
    patient: TritonCore, patient_repository: Path, tmp_path: Path, demo_clip: Path
) -> None:
    environment = {
        "SERVE_REPOSITORY": str(patient_repository), "SERVE_MODEL": "tiny@1", "SERVE_ENGINE": "triton",
        "SERVE_TRITON__URL": patient.grpc, "SERVE_TRITON__CONFIG_NAME": VARIANT,
        "SERVE_LIMITS__REQUEST_DEADLINE_SECONDS": str(DELAY_SECONDS * 0.75),
    }  # fmt: skip

    def classify(http: httpx.Client) -> str:
        answer = http.post("/v1/classify", files={"video": demo_clip.read_bytes()}, data={"candidate_labels": "a, b"})
        return str(answer.json().get("type", answer.status_code))

    with (
        running_server(tmp_path / "cache", **environment) as gateway,
        httpx.Client(base_url=gateway.address, timeout=PATIENCE_SECONDS) as http,
        ThreadPoolExecutor(12) as pool,
    ):
        kinds = Counter(pool.map(classify, [http] * 12))
    assert set(kinds) == {"/problems/overloaded", "/problems/deadline-exceeded"}, kinds
