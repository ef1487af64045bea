"""Timelines beside interactive requests: a limit of their own, and a turn for a classification between two windows."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from serve.app import create_app
from serve.settings import ServeSettings
from tests.serve.timeline.conftest import Stitched
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A server in this process that works on one timeline at once."""
    settings = ServeSettings(
        model="demo", engine="onnxruntime-cpu", threads=1, cache_dir=tmp_path / "cache", data_dir=tmp_path / "data",
        timeline={"max_concurrent": 1}, decode={"workers": 1, "threads": 1},
    )  # fmt: skip
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None) as found:
            await until(lambda: app.state.service.readiness.is_ready, pause_seconds=0.05)
            yield found


async def posted(client: httpx.AsyncClient, route: str, path: Path, **options: object) -> httpx.Response:
    files = {"video": await asyncio.to_thread(path.read_bytes)}
    return await client.post(f"/v1/{route}", files=files, data={"options": json.dumps(options)})


async def metric(client: httpx.AsyncClient, name: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


async def in_progress(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await metric(client, "actserve_timelines_in_flight"):
            await asyncio.sleep(0)


async def test_a_classification_is_answered_while_a_timeline_is_made(
    client: httpx.AsyncClient, stitched: Stitched, demo_clip: Path
) -> None:
    """There is one decode child for classifications, and the engine takes a window at a time."""
    work = asyncio.create_task(posted(client, "timeline", stitched.path, window_seconds=1, stride_seconds=0.05))
    await in_progress(client)
    assert (await posted(client, "classify", demo_clip)).status_code == 200
    assert not work.done()  # one clip does not wait for 341 windows
    answer = await work
    assert answer.status_code == 200
    assert answer.json()["num_windows"] == 341


async def test_a_second_timeline_is_refused_and_a_later_one_is_not(
    client: httpx.AsyncClient, stitched: Stitched
) -> None:
    work = asyncio.create_task(posted(client, "timeline", stitched.path, window_seconds=1, stride_seconds=0.05))
    await in_progress(client)
    refused = await posted(client, "timeline", stitched.path)
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/overloaded")
    assert refused.headers["retry-after"]
    assert (await work).status_code == 200
    assert (await posted(client, "timeline", stitched.path)).status_code == 200


async def test_a_cancelled_timeline_leaves_nothing_behind(client: httpx.AsyncClient, stitched: Stitched) -> None:
    work = asyncio.create_task(posted(client, "timeline", stitched.path, window_seconds=1, stride_seconds=0.05))
    await in_progress(client)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert await metric(client, "actserve_timelines_in_flight") == 0
    assert (await posted(client, "timeline", stitched.path)).status_code == 200
