"""Large vocabularies: they give way to small ones, and stop when they are replaced or deleted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.service import Service
from serve.settings import ServeSettings
from serve.vocabularies.encoding_turns import EncodingTurns
from tests.waiting import until

NUM_LABELS = 20_000  # in five templates; takes minutes
TEMPLATES = [f"{{}} number {number}" for number in range(5)]


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    settings = ServeSettings(
        model="demo", engine="onnxruntime-cpu", threads=1, cache_dir=tmp_path / "cache", data_dir=tmp_path / "data",
        decode={"workers": 1, "threads": 1}, jobs={"max_concurrent": 0},
    )  # fmt: skip
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await until(lambda: app.state.service.readiness.is_ready, pause_seconds=0.05)
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as client:
        yield client


async def put(client: httpx.AsyncClient, name: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    sent = {"If-None-Match": "*", "Prefer": "wait=0"} | {key.replace("_", "-"): value for key, value in headers.items()}
    if "If-Match" in sent:
        del sent["If-None-Match"]
    return await client.put(f"/v1/vocabularies/{name}", json=body, headers=sent)


def large(prefix: str) -> dict[str, Any]:
    return {"labels": [f"{prefix} {number}" for number in range(NUM_LABELS)], "templates": TEMPLATES}


async def test_a_small_vocabulary_does_not_wait_for_a_large_one(app: FastAPI, client: httpx.AsyncClient) -> None:
    service: Service = app.state.service
    bank = service.registry.get(None).bank_builder
    assert (await put(client, "large", large("one"))).status_code == 202
    started = bank.num_encoded_prompts
    await until(lambda: bank.num_encoded_prompts > started, pause_seconds=0.01)
    small = await put(client, "small", {"labels": ["a cat", "a dog"]}, Prefer="wait=300")
    assert small.status_code == 200 and small.json()["is_current"]
    progress = (await client.get("/v1/vocabularies/large")).json()["encoding"]
    assert 0 < progress["done"] < progress["total"] == NUM_LABELS * len(TEMPLATES)

    replaced = await put(client, "large", {"labels": ["a", "b"]}, If_Match='"1"', Prefer="wait=300")
    assert replaced.status_code == 200, "the encoding of the first version is cancelled"
    assert (await put(client, "other", large("two"))).status_code == 202
    started = bank.num_encoded_prompts
    await until(lambda: bank.num_encoded_prompts > started, pause_seconds=0.01)
    deleted = await client.delete("/v1/vocabularies/other", headers={"If-Match": "*"})
    assert deleted.status_code == 204
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "encode vocabulary other"])
    assert bank.num_encoded_prompts < NUM_LABELS
    assert bank.memory_bytes <= service.settings.limits.bank_cache_bytes


async def test_turns_go_to_the_encoding_that_was_served_least() -> None:
    turns, order = EncodingTurns(), []

    async def encode(name: str, slices: int) -> None:
        for _ in range(slices):
            async with turns.take(name, 100):
                order.append(name)
                await asyncio.sleep(0)

    large = asyncio.create_task(encode("large", 50))
    await until(lambda: len(order) >= 10, pause_seconds=0)
    num_before = len(order)
    cancelled = asyncio.create_task(encode("cancelled", 5))
    small = asyncio.create_task(encode("small", 2))
    await asyncio.sleep(0)
    cancelled.cancel()
    await small
    assert order.count("large") <= num_before + 5
    await large
    assert order.count("large") == 50
