"""Jobs beside interactive requests: a classification waits for at most one window of job work."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.arrays import UInt8Array
from serve.background import Lane, encode_views, in_background
from serve.features import VideoFeatures
from serve.jobs.states import FINISHED
from serve.service import Service
from serve.settings import ServeSettings
from tests.waiting import until

FOREVER = float("inf")


class Recorded:
    """An engine that notes the order in which its runs start and end."""

    def __init__(self, service: Service) -> None:
        self._engine = service.registry.get(None).engine
        self.runs: list[str] = []

    @property
    def queued_views(self) -> int:
        return self._engine.queued_views

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        name = f"{len(views)} views"
        self.runs.append(f"{name} sent")
        found = await self._engine.encode_video(views, deadline=deadline)
        self.runs.append(f"{name} done")
        return found


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    """A server in this process with one decode child and one thread."""
    settings = ServeSettings(
        model="demo", engine="onnxruntime-cpu", threads=1, cache_dir=tmp_path / "cache", data_dir=tmp_path / "data",
        decode={"workers": 1, "threads": 1}, jobs={"max_concurrent": 2},
    )  # fmt: skip
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await until(lambda: app.state.service.readiness.is_ready, pause_seconds=0.05)
        yield app


@pytest.fixture
def service(app: FastAPI) -> Service:
    found: Service = app.state.service
    return found


def views_of(service: Service, count: int) -> UInt8Array:
    contract = service.registry.get(None).contract
    size, frames = contract.preprocess.image_size, contract.sampling.num_segments
    return np.random.default_rng(0).integers(0, 256, (count, frames, 3, size, size), dtype=np.uint8)


async def test_background_views_go_one_at_a_time_and_have_the_same_features(service: Service) -> None:
    engine, views, lane = Recorded(service), views_of(service, 3), Lane()
    with in_background(lane):
        first, second = await asyncio.gather(*(encode_views(engine, views, deadline=FOREVER) for _ in range(2)))
    assert engine.runs == ["1 views sent", "1 views done"] * 6
    whole = await encode_views(engine, views, deadline=FOREVER)
    assert engine.runs[-2:] == ["3 views sent", "3 views done"]
    np.testing.assert_array_equal(first.video_features, second.video_features)
    np.testing.assert_allclose(  # the batch may change the order of sums
        first.video_features, whole.video_features, rtol=1e-4, atol=1e-5 * np.abs(whole.video_features).max()
    )


async def test_an_interactive_view_waits_for_at_most_one_of_the_background(service: Service) -> None:
    engine, lane = Recorded(service), Lane()
    with in_background(lane):
        work = asyncio.create_task(encode_views(engine, views_of(service, 8), deadline=FOREVER))
    await until(lambda: "1 views done" in engine.runs)
    before = len(engine.runs)
    await encode_views(engine, views_of(service, 2), deadline=FOREVER)
    between = engine.runs[before : engine.runs.index("2 views done")]
    assert between.count("1 views done") <= 1
    await work


async def test_a_classification_is_answered_while_jobs_are_worked_on(app: FastAPI, demo_clip: Path) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None) as client:
        clip = await asyncio.to_thread(demo_clip.read_bytes)
        options = json.dumps({"window_seconds": 0.6, "stride_seconds": 0.02})
        made = await client.post(
            "/v1/jobs", files=[("video", clip)] * 20, data={"kind": "timeline", "options": options}
        )
        address = made.headers["location"]

        async def job() -> dict[str, object]:
            found: dict[str, object] = (await client.get(address)).json()
            return found

        while (await job())["status"] == "validating":
            await asyncio.sleep(0.01)
        for _ in range(3):
            assert (await client.post("/v1/classify", files={"video": clip})).status_code == 200
        assert (await job())["status"] not in FINISHED  # three clips do not wait for the windows of twenty
        assert (await client.delete(address)).status_code == 202
        while (await job())["status"] not in FINISHED:
            await asyncio.sleep(0.01)
        assert (await job())["status"] == "cancelled"
