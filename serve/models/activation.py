"""Changing the model under load: a version is staged beside the running one and takes over in one step, or not at all.

Staging loads it, checks contract and parity, warms it up and encodes every vocabulary for it. The version before stays
loaded, and vocabularies go on being encoded for it too, so a rollback is one step as well.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from serve.errors import (
    ActivationUnderWay,
    ActserveError,
    ContractError,
    InvalidOption,
    ModelRefused,
    StoreUnavailable,
    UnknownModel,
)
from serve.models.registry import ModelRegistry
from serve.models.repository import ModelReference, find_contract, model_names
from serve.models.routing import DEFAULT, Routes, RouteStore
from serve.models.runtime import load_runtime
from serve.settings import ServeSettings
from serve.vocabularies.catalogue import Catalogue

logger = logging.getLogger(__name__)


@dataclass
class Staging:
    """How far a version has come; what `GET /v1/models` shows of it."""

    reference: str
    stage: Literal["loading", "encoding", "active", "failed"] = "loading"
    done: int = 0  # vocabularies
    total: int = 0
    fault: str | None = None
    seconds: float = 0.0


class Activation:
    """Moves names and aliases to versions; one move at a time."""

    def __init__(
        self, registry: ModelRegistry, store: RouteStore, *, settings: ServeSettings, catalogue: Catalogue
    ) -> None:
        self._registry = registry
        self._store = store
        self._settings = settings
        self._catalogue = catalogue
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused: Routes | None = None  # routes of another gateway that could not be followed here
        self.staging: Staging | None = None  # the last one
        self.fault: str | None = None  # why this gateway does not follow the others

    async def start(self) -> None:
        """Load what the routes of the last run lead to, else what the settings name.

        Raises:
            UnknownModel, ContractError: it cannot be served.
            StoreUnavailable: the database does not answer.
        """
        routes = await asyncio.to_thread(self._store.load)
        wanted = [f"{name}@{version}" for name, version in routes.versions.items()] or [self._settings.model]
        for reference in wanted:
            runtime = await load_runtime(self._settings, reference)
            self._registry.add(runtime)
            if not routes.versions:
                contract = runtime.contract
                routes = Routes().with_version(contract.name, contract.version).with_alias(DEFAULT, contract.name)
        self._registry.set_routes(routes)

    def watch(self, *, poll_seconds: float) -> None:
        """Begin to follow what other gateways of the store activate."""
        task = asyncio.create_task(self._watch(poll_seconds), name="follow models")
        self._tasks.add(task)

    async def activate(self, name: str, version: int | None, *, alias: str | None, seconds: float) -> bool:
        """Lead `name` to a version (the newest on disk for None), and `alias` to `name`; whether that is done by now.

        Waits for `seconds`; the work goes on beyond them, and `staging` tells of it.

        Raises:
            UnknownModel: there is no such version.
            InvalidOption: the alias is another model's name.
            ActivationUnderWay: another one is.
            ModelRefused: it cannot be served; nothing was changed.
            StoreUnavailable: the routes cannot be kept; nothing was changed.
        """
        repository = self._settings.repository
        if alias is not None and alias != name and alias in await asyncio.to_thread(model_names, repository):
            raise InvalidOption(f"the alias {alias!r} is the name of another model")
        try:
            contract = await asyncio.to_thread(find_contract, repository, ModelReference(name, version))
        except ContractError as error:
            raise ModelRefused(error.message, **error.facts) from error

        def reroute(routes: Routes) -> Routes:
            moved = routes.with_version(name, contract.version)
            return moved if alias is None else moved.with_alias(alias, name)

        return await self._move(reroute, f"{name}@{contract.version}", seconds=seconds)

    async def roll_back(self, name: str, *, seconds: float) -> bool:
        """Lead a model's name to the version before, or an alias to the model before; whether that is done by now.

        Raises:
            UnknownModel: there was nothing before.
            ActivationUnderWay, ModelRefused, StoreUnavailable: see `activate`.
        """
        routes = self._registry.routes
        if name in routes.aliases_before:
            model = routes.aliases_before[name]
            return await self._move(
                lambda found: found.with_alias(name, model), f"{model}@{routes.versions[model]}", seconds=seconds
            )
        if name not in routes.previous:
            raise UnknownModel(f"there is no version of {name!r} before this one to return to")
        version = routes.previous[name]
        return await self._move(lambda found: found.with_version(name, version), f"{name}@{version}", seconds=seconds)

    async def close(self) -> None:
        """Stop what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, poll_seconds: float) -> None:
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                await self._follow()
            except StoreUnavailable:
                pass  # the vocabularies' watch tells of it
            except Exception:  # the watch must outlive any one failure
                logger.exception("the models of another gateway could not be followed; it is tried again")

    async def _follow(self) -> None:
        """Take over routes another gateway has changed."""
        kept = await asyncio.to_thread(self._store.load)
        if self._turn.locked() or not kept.versions or kept in (self._registry.routes, self._refused):
            return
        async with self._turn:
            try:
                for name, version in kept.versions.items():
                    await self._stage(f"{name}@{version}")
            except ModelRefused as error:
                self._refused = kept
                self.fault = f"another gateway activated what cannot be served here: {error.message}"
                return
            self._swap(kept)
            self.fault = self._refused = None

    async def _move(self, reroute: Callable[[Routes], Routes], reference: str, *, seconds: float) -> bool:
        """Stage a version and follow the routes that `reroute` makes of the current ones."""
        if self._turn.locked():
            current = self.staging.reference if self.staging else "another model"
            raise ActivationUnderWay(f"{current} is being activated; one at a time", reference=current)
        await self._turn.acquire()
        task = asyncio.create_task(self._moving(reroute, reference), name=f"activate {reference}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # told by `staging`
            return False
        task.result()
        return True

    async def _moving(self, reroute: Callable[[Routes], Routes], reference: str) -> None:
        """The work of `_move`; gives up the turn it was started with."""
        try:
            await self._stage(reference)
            routes = reroute(self._registry.routes)
            try:
                await asyncio.to_thread(self._store.save, routes)
            except StoreUnavailable as error:
                await self._fail(error)
                raise
            self._swap(routes)
        finally:
            self._turn.release()

    async def _stage(self, reference: str) -> None:
        """Have a version loaded, checked and all vocabularies encoded for it.

        Raises:
            ModelRefused: one of these failed; nothing is left of it.
        """
        started = time.perf_counter()
        staging = self.staging = Staging(reference=reference)
        try:
            if reference not in {runtime.reference for runtime in self._registry.loaded()}:
                self._registry.add(await load_runtime(self._settings, reference))
            staging.stage = "encoding"

            def count(done: int, total: int) -> None:
                staging.done, staging.total = done, total

            await self._catalogue.prepare(self._registry.get(reference), count)
        except Exception as error:
            told = await self._fail(error)
            if isinstance(error, StoreUnavailable):
                raise
            raise ModelRefused(f"{reference} stays inactive: {told}", reference=reference) from error
        finally:
            staging.seconds = time.perf_counter() - started

    async def _fail(self, error: Exception) -> str:
        """Tell why the staged version stays inactive, and let it go."""
        told = error.message if isinstance(error, ActserveError) else "the server failed; its log has the cause"
        assert self.staging is not None, "something was staged"
        logger.warning("%s stays inactive: %s", self.staging.reference, told, exc_info=error)
        self.staging.stage, self.staging.fault = "failed", told
        await self._unload_unused()
        return told

    def _swap(self, routes: Routes) -> None:
        """Follow new routes; what neither they nor a rollback leads to is closed when its users are done."""
        self._registry.set_routes(routes)
        if self.staging is not None:
            self.staging.stage = "active"
        logger.info("models: %s", ", ".join(runtime.reference for runtime in self._registry.active()))
        task = asyncio.create_task(self._settle(), name="settle models")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self) -> None:
        """What follows a swap and may take its time."""
        await self._unload_unused()
        try:
            await self._catalogue.adopt([runtime.contract for runtime in self._registry.active()])
        except StoreUnavailable as error:
            logger.warning("the labels of new models are not in the store yet: %s", error)

    async def _unload_unused(self) -> None:
        routes = self._registry.routes
        kept = {f"{name}@{version}" for name, version in (*routes.versions.items(), *routes.previous.items())}
        for runtime in self._registry.loaded():
            if runtime.reference not in kept:
                with suppress(ActserveError):
                    await self._registry.unload(runtime.reference)
