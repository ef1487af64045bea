"""The Triton engine against a real core: the embedded engine's numbers, shared memory, limits, versions, faults."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serve.errors import ContractError, DeadlineExceeded, EngineUnavailable, Overloaded
from serve.models.runtime import ModelRuntime, load_runtime
from serve.settings import BatchSettings, ServeSettings, TritonSettings
from tests.tolerances import assert_close, tolerance
from tests.triton.core import TritonCore, needs_triton
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.triton, needs_triton()]

LABELS = ("clapping", "playing drums", "swimming", "yawning")
Load = Callable[..., Any]


@pytest.fixture
async def load(core: TritonCore, triton_repository: Path, tmp_path: Path) -> AsyncIterator[Load]:
    """Loads a model on Triton, or embedded; closed at the end."""
    opened: list[ModelRuntime] = []

    async def load(reference: str, *, engine: str = "triton", batch: BatchSettings | None = None, **triton: Any) -> Any:
        settings = ServeSettings(
            repository=triton_repository, cache_dir=tmp_path / "cache", engine=engine,  # type: ignore[arg-type]
            batch=batch or BatchSettings(), triton=TritonSettings(**{"url": core.grpc, **triton}),
        )  # fmt: skip
        runtime = await load_runtime(settings, reference)
        opened.append(runtime)
        return runtime

    yield load
    for runtime in opened:
        await runtime.close()


def shared_regions() -> list[Path]:
    """Return the regions of this process; other servers on the machine have theirs."""
    return list(Path("/dev/shm").glob(f"actserve-triton-{os.getpid()}-*"))


def soon(seconds: float = PATIENCE_SECONDS) -> float:
    return asyncio.get_running_loop().time() + seconds


def views(runtime: ModelRuntime, count: int, *, seed: int = 0) -> np.ndarray:
    contract = runtime.contract
    size = contract.preprocess.image_size
    shape = (count, contract.sampling.num_segments, 3, size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


async def logits(runtime: ModelRuntime, asked: np.ndarray) -> np.ndarray:
    features = await runtime.engine.encode_video(asked, deadline=soon())
    return await runtime.logits(features, await runtime.bank_builder.build(LABELS, runtime.contract.text.templates))


@pytest.mark.parametrize("name", ["demo", "other", "fused", "tiny"])
async def test_every_family_gives_the_numbers_of_the_embedded_engine(load: Load, name: str) -> None:
    remote, local = await load(name), await load(name, engine="onnxruntime-cpu")
    asked = views(remote, 11)  # more than a run of eight
    np.testing.assert_allclose(await logits(remote, asked), await logits(local, asked), atol=tolerance(100.0))
    assert remote.engine.name == "triton" and remote.parity.is_passed


async def test_views_go_through_shared_memory_or_as_messages_with_equal_numbers(load: Load) -> None:
    shared, plain = await load("demo", shared_memory="always"), await load("demo", shared_memory="never")
    assert len(shared_regions()) == 1
    assert (shared.engine.details["views"], plain.engine.details["views"]) == ("shared memory", "message")
    asked = views(shared, 3)
    np.testing.assert_array_equal(await logits(shared, asked), await logits(plain, asked))
    await shared.engine.close()
    assert not shared_regions()


async def test_without_room_for_shared_memory_views_go_as_messages_and_that_is_reported(load: Load) -> None:
    huge = 2**44
    fallen = await load("demo", shared_memory_bytes=huge)
    assert fallen.engine.details["views"].startswith("message (no shared memory: ")
    assert len(await logits(fallen, views(fallen, 1))) == 1
    with pytest.raises(ContractError, match="cannot use shared memory"):
        await load("demo", shared_memory="always", shared_memory_bytes=huge)
    assert not shared_regions()


async def test_views_beyond_the_shared_memory_go_as_messages(load: Load) -> None:
    runtime = await load("demo")
    tight = await load("demo", shared_memory="always", shared_memory_bytes=2**18)  # room for one view
    asked = views(runtime, 12)
    many = await asyncio.gather(*(logits(tight, asked[i : i + 1]) for i in range(12)))
    np.testing.assert_allclose(np.concatenate(many), await logits(runtime, asked), atol=tolerance(100.0))


async def test_a_frozen_server_ends_requests_at_their_deadline(load: Load, core: TritonCore) -> None:
    runtime = await load("demo")
    asked = views(runtime, 1)
    core.freeze()
    try:
        with pytest.raises(DeadlineExceeded):
            await runtime.engine.encode_video(asked, deadline=soon(0.5))
    finally:
        core.process.send_signal(signal.SIGCONT)
    assert (await runtime.engine.encode_video(asked, deadline=soon())).video_features.shape == (1, 128)


async def test_the_server_joins_concurrent_requests(load: Load, core: TritonCore) -> None:
    runtime = await load("tiny@1")

    def counts() -> tuple[int, int]:
        stats = httpx.get(f"{core.http}/v2/models/tiny_video/versions/1/stats", timeout=PATIENCE_SECONDS).json()[
            "model_stats"
        ][0]
        return stats["inference_count"], stats["execution_count"]

    before = counts()
    asked = [views(runtime, 1, seed=seed) for seed in range(60)]
    found = await asyncio.gather(*(runtime.engine.encode_video(one, deadline=soon()) for one in asked))
    inferences, executions = (after - earlier for after, earlier in zip(counts(), before, strict=True))
    assert inferences == 60
    assert executions < 60
    alone = [await runtime.engine.encode_video(one, deadline=soon()) for one in asked[::20]]
    for one, joined in zip(alone, found[::20], strict=True):
        assert_close(one.video_features, joined.video_features)


async def test_limits_and_deadlines_are_reported_as_such(load: Load) -> None:
    runtime = await load("demo", batch=BatchSettings(max_queued_views=4))
    asked = views(runtime, 2)
    answers = await asyncio.gather(
        *(runtime.engine.encode_video(asked, deadline=soon()) for _ in range(8)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} - {Overloaded} and any(isinstance(a, Overloaded) for a in answers)
    with pytest.raises(DeadlineExceeded):
        await runtime.engine.encode_video(asked, deadline=soon(1e-5))
    with pytest.raises(DeadlineExceeded):
        await runtime.engine.encode_video(asked, deadline=soon(-1))
    await until(lambda: runtime.engine.queued_views == 0)  # views of callers who left count until the server is done


async def test_callers_who_leave_harm_neither_the_server_nor_those_who_stay(load: Load, core: TritonCore) -> None:
    runtime = await load("demo")
    asked = views(runtime, 1)
    expected = await logits(runtime, asked)
    for seconds in np.linspace(0.001, 0.05, 60):
        leaving = [asyncio.create_task(logits(runtime, asked)) for _ in range(2)]
        await asyncio.sleep(float(seconds))
        for task in leaving:
            task.cancel()
        with suppress(DeadlineExceeded):
            await runtime.engine.encode_video(asked, deadline=soon(float(seconds)))
    np.testing.assert_allclose(await logits(runtime, asked), expected, atol=tolerance(100.0))
    assert core.process.poll() is None


async def test_two_versions_stand_beside_each_other_until_one_is_unloaded(load: Load, core: TritonCore) -> None:
    first, second = await load("tiny@1"), await load("tiny@2")
    asked = views(first, 2)
    one, two = await logits(first, asked), await logits(second, asked)
    assert np.abs(one - two).max() > 0.01
    np.testing.assert_array_equal(await logits(first, asked), one)
    answers: list[np.ndarray] = []
    stays = asyncio.create_task(_ask_on(second, asked, answers))
    await first.engine.unload()
    await first.engine.close()  # its watch would have it loaded again

    def ready() -> set[str]:
        index = httpx.post(f"{core.http}/v2/repository/index", timeout=PATIENCE_SECONDS).json()
        return {item["version"] for item in index if item["name"] == "tiny_video" and item.get("state") == "READY"}

    await until(lambda: ready() == {"2"})
    np.testing.assert_array_equal(await logits(second, asked), two)
    again = await load("tiny@1")  # after the server was set to keep only the other
    np.testing.assert_array_equal(await logits(again, asked), one)
    await until(lambda: len(answers) > 10)
    stays.cancel()
    await asyncio.gather(stays, return_exceptions=True)
    for answer in answers:
        np.testing.assert_array_equal(answer, two)


async def _ask_on(runtime: ModelRuntime, asked: np.ndarray, answers: list[np.ndarray]) -> None:
    """Append the answers to one request after the other, until cancelled."""
    while True:
        answers.append(await logits(runtime, asked))


async def test_a_server_with_another_model_under_the_name_is_refused(
    load: Load, core: TritonCore, triton_repository: Path
) -> None:
    path = triton_repository / "fused_video" / "1" / "contract.json"
    document = json.loads(path.read_text())
    document["graphs"]["video"]["outputs"][0]["axes"][1] = 48
    document["embed_dim"] = 48
    original = path.read_text()
    path.write_text(json.dumps(document))
    try:
        with pytest.raises(ContractError, match="video_features"):
            await load("fused")
    finally:
        path.write_text(original)


async def test_a_server_that_is_not_there_is_reported_in_time(load: Load) -> None:
    with pytest.raises(ContractError, match=r"within 2 s.*(connect|refused|unavailable|UNAVAILABLE)"):
        await load("demo", url="127.0.0.1:9", load_timeout_seconds=2)


async def test_a_model_the_server_lost_is_unavailable_and_comes_back(load: Load, core: TritonCore) -> None:
    runtime = await load("demo")
    unload = f"{core.http}/v2/repository/models/demo_video/unload"
    (await asyncio.to_thread(httpx.post, unload)).raise_for_status()
    asked = views(runtime, 1)
    with pytest.raises(EngineUnavailable):
        for _ in range(1000):  # the server finishes what it has before it drops a model
            await runtime.engine.encode_video(asked, deadline=soon())
            await asyncio.sleep(0.05)
    await until(lambda: runtime.engine.fault is None)
    assert (await runtime.engine.encode_video(asked, deadline=soon())).video_features.shape == (1, 128)
