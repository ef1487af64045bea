"""A version that is loaded already is asked for an answer before names are routed to it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from serve.errors import EngineUnavailable, ModelRefused
from serve.models import activation
from serve.models.activation import Activation
from serve.models.registry import ModelRegistry
from serve.models.routing import DEFAULT, Routes, RouteStore
from serve.models.runtime import ModelRuntime
from serve.settings import ServeSettings


class Engine:
    """Answers, says that it is lost, fails, or never answers: what a Triton server may do."""

    label = "stub"

    def __init__(self, *, is_frozen: bool = False, is_lost: bool = False, fault: str | None = None) -> None:
        self.is_frozen, self.is_lost, self.fault = is_frozen, is_lost, fault

    async def encode_text(self, tokens: np.ndarray) -> np.ndarray:
        if self.is_lost:
            raise EngineUnavailable("Triton does not answer")
        if self.is_frozen:
            await asyncio.Event().wait()
        return np.zeros((len(tokens), 4), np.float32)


class Store:
    """Keeps routes as the database does."""

    def __init__(self) -> None:
        self.saved: list[Routes] = []

    def save(self, routes: Routes, *, if_match: str | None = None) -> None:
        assert if_match is None
        self.saved.append(routes)


class Vocabularies:
    """Has everything encoded, as for a version that is kept for a rollback."""

    async def prepare(self, runtime: object, progress: object) -> None: ...

    async def add_default_vocabularies(self, contracts: object) -> None: ...


def runtime(version: int, engine: Engine) -> ModelRuntime:
    text = SimpleNamespace(dynamic_length=False, context_length=8, pad_id=0)
    unused = cast(Any, None)
    return ModelRuntime(
        contract=cast(Any, SimpleNamespace(name="m", version=version, text=text)),
        engine=cast(Any, engine), tokenizer=unused, bank_builder=unused, clip_cache=unused, parity=unused,
        rejected_engines={},
    )  # fmt: skip


async def rolled_back(before: Engine) -> tuple[ModelRegistry, Store, bool | Exception]:
    """Registry and stored routes after a rollback from version 2 to version 1, whose engine is given."""
    settings = ServeSettings()
    registry, store = ModelRegistry(settings), Store()
    registry.add(runtime(1, before))
    registry.add(runtime(2, Engine()))
    registry.set_routes(Routes().with_version("m", 1).with_version("m", 2).with_alias(DEFAULT, "m"))
    moves = Activation(registry, cast(RouteStore, store), settings=settings, vocabularies=cast(Any, Vocabularies()))
    try:
        return registry, store, await moves.roll_back("m", seconds=10)
    except ModelRefused as error:
        return registry, store, error
    finally:
        await moves.close()


async def test_a_version_that_answers_is_returned_to() -> None:
    registry, store, found = await rolled_back(Engine())
    assert found is True
    assert registry.get(None).reference == "m@1"
    assert len(store.saved) == 1


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Engine(is_lost=True), "Triton does not answer"),
        (Engine(is_frozen=True), "m@1 does not respond within"),
        (Engine(fault="Triton at x cannot be used"), "cannot be used"),
    ],
    ids=["gone", "frozen", "known to be gone"],
)
async def test_a_rollback_to_a_lost_server_is_refused_and_changes_nothing(
    engine: Engine, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "RESPONSE_TIMEOUT_SECONDS", 0.05)
    registry, store, found = await rolled_back(engine)
    assert isinstance(found, ModelRefused)
    assert words in found.message
    assert registry.get(None).reference == "m@2"
    assert store.saved == []
