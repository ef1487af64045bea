"""Model activation under load: stage a version beside the active one, then switch to it in one step.

Staging loads the version, checks its contract and parity, warms it up and encodes every vocabulary for it. If any of
this fails, nothing changes. The previous version stays loaded and new vocabularies are still encoded for it, so a
rollback is one step too.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from serve.contract import ModelContract
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
from serve.models.routing import DEFAULT, Routes, RouteStore
from serve.models.runtime import ModelRuntime, load_runtime
from serve.repository import ModelReference, find_contract, model_names
from serve.settings import ServeSettings

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 20.0  # of a version that is loaded already, for one text


class Vocabularies(Protocol):
    """What an activation needs of the server's vocabularies."""

    async def prepare(self, runtime: ModelRuntime, progress: Callable[[int, int], None]) -> None:
        """Encode every vocabulary for a version that is not active yet; `progress` takes (done, total)."""
        ...

    async def adopt(self, contracts: Sequence[ModelContract]) -> None:
        """Store the labels that active models were made for, and wait until they are encoded or cannot be."""
        ...


@dataclass
class Staging:
    """Progress of one activation, as `GET /v1/models` shows it."""

    reference: str
    stage: Literal["loading", "encoding", "active", "failed"] = "loading"
    done: int = 0  # vocabularies
    total: int = 0
    fault: str | None = None
    seconds: float = 0.0


class Activation:
    """Changes which versions names and aliases refer to; one change at a time."""

    def __init__(
        self, registry: ModelRegistry, store: RouteStore, *, settings: ServeSettings, vocabularies: Vocabularies
    ) -> None:
        self._registry = registry
        self._store = store
        self._settings = settings
        self._vocabularies = vocabularies
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused: Routes | None = None  # routes set by another gateway that cannot be served here
        self.staging: Staging | None = None  # the most recent one
        self.fault: str | None = None  # why this gateway does not follow the other gateways

    async def start(self) -> None:
        """Load the versions of the stored routes, or the model of the settings if there are none.

        Raises:
            UnknownModel, ContractError: a version cannot be served.
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
        """Start to follow activations by other gateways that share the store."""
        task = asyncio.create_task(self._watch(poll_seconds), name="follow models")
        self._tasks.add(task)

    async def activate(self, name: str, version: int | None, *, alias: str | None, seconds: float) -> bool:
        """Route `name` to a version (None: the newest on disk) and `alias` to `name`; return whether it is done.

        Wait for at most `seconds`. After that the activation continues in the background and `staging` shows its
        progress.

        Raises:
            UnknownModel: there is no such version.
            InvalidOption: the alias is another model's name.
            ActivationUnderWay: another activation is in progress.
            ModelRefused: the version cannot be served; nothing was changed.
            StoreUnavailable: the routes cannot be stored; nothing was changed.
        """
        repository = self._settings.repository
        if alias is not None and alias != name and alias in await asyncio.to_thread(model_names, repository):
            raise InvalidOption(f"the alias {alias!r} is the name of another model; choose another alias")
        try:
            contract = await asyncio.to_thread(find_contract, repository, ModelReference(name, version))
        except ContractError as error:
            raise ModelRefused(error.message, **error.details) from error

        def reroute(routes: Routes) -> Routes:
            moved = routes.with_version(name, contract.version)
            return moved if alias is None else moved.with_alias(alias, name)

        return await self._move(reroute, f"{name}@{contract.version}", seconds=seconds)

    async def roll_back(self, name: str, *, seconds: float) -> bool:
        """Route a model's name to its previous version, or an alias to its previous model; return whether it is done.

        Raises:
            UnknownModel: there is no previous version or model.
            ActivationUnderWay, ModelRefused, StoreUnavailable: see `activate`.
        """
        routes = self._registry.routes
        if name in routes.aliases_before:
            model = routes.aliases_before[name]
            return await self._move(
                lambda found: found.with_alias(name, model), f"{model}@{routes.versions[model]}", seconds=seconds
            )
        if name not in routes.previous:
            raise UnknownModel(f"{name!r} has no previous version to roll back to")
        version = routes.previous[name]
        return await self._move(lambda found: found.with_version(name, version), f"{name}@{version}", seconds=seconds)

    async def close(self) -> None:
        """Cancel the activation in progress and stop following other gateways."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, poll_seconds: float) -> None:
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                await self._follow()
            except StoreUnavailable:
                pass  # reported by the watch of the vocabularies
            except Exception:  # the watch continues after any failure
                logger.exception("cannot follow the models of another gateway; trying again")

    async def _follow(self) -> None:
        """Adopt routes that another gateway has changed."""
        kept = await asyncio.to_thread(self._store.load)
        if self._turn.locked() or not kept.versions or kept in (self._registry.routes, self._refused):
            return
        async with self._turn:
            try:
                for name, version in kept.versions.items():
                    await self._stage(f"{name}@{version}")
            except ModelRefused as error:
                self._refused = kept
                self.fault = f"another gateway activated a model that cannot be served here: {error.message}"
                return
            self._swap(kept)
            self.fault = self._refused = None
            await self._adopt()

    async def _move(self, reroute: Callable[[Routes], Routes], reference: str, *, seconds: float) -> bool:
        """Stage a version, then apply `reroute` to the routes that are current at that time."""
        if self._turn.locked():
            current = self.staging.reference if self.staging else "another model"
            raise ActivationUnderWay(
                f"{current} is being activated; try again when it is done",
                reference=current,
            )
        await self._turn.acquire()
        task = asyncio.create_task(self._moving(reroute, reference), name=f"activate {reference}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # reported in `staging`
            return False
        task.result()
        return True

    async def _moving(self, reroute: Callable[[Routes], Routes], reference: str) -> None:
        """Do the work of `_move` and release the lock that `_move` acquired."""
        try:
            await self._stage(reference)
            routes = reroute(self._registry.routes)
            try:
                await asyncio.to_thread(self._store.save, routes)
            except StoreUnavailable as error:
                await self._fail(error)
                raise
            self._swap(routes)
            await self._adopt()
        finally:
            self._turn.release()

    async def _stage(self, reference: str) -> None:
        """Load and check a version, or make sure that a loaded one still answers; encode all vocabularies for it.

        Raises:
            ModelRefused: one of these failed; the version is unloaded, unless a rollback may need it.
        """
        started = time.perf_counter()
        staging = self.staging = Staging(reference=reference)
        try:
            if reference in {runtime.reference for runtime in self._registry.loaded()}:
                await self._registry.get(reference).require_answer(seconds=ANSWER_SECONDS)
            else:
                self._registry.add(await load_runtime(self._settings, reference))
            staging.stage = "encoding"

            def count(done: int, total: int) -> None:
                staging.done, staging.total = done, total

            await self._vocabularies.prepare(self._registry.get(reference), count)
        except Exception as error:
            reason = await self._fail(error)
            if isinstance(error, StoreUnavailable):
                raise
            raise ModelRefused(f"{reference} was not activated: {reason}", reference=reference) from error
        finally:
            staging.seconds = time.perf_counter() - started

    async def _fail(self, error: Exception) -> str:
        """Record and return why the staged version was not activated, and unload it."""
        reason = error.message if isinstance(error, ActserveError) else "internal error; see the server log"
        assert self.staging is not None, "_stage sets it"
        logger.warning("%s was not activated: %s", self.staging.reference, reason, exc_info=error)
        self.staging.stage, self.staging.fault = "failed", reason
        await self._unload_unused()
        return reason

    def _swap(self, routes: Routes) -> None:
        """Set new routes; unload in the background the versions that neither they nor a rollback needs."""
        self._registry.set_routes(routes)
        if self.staging is not None:
            self.staging.stage = "active"
        logger.info("models: %s", ", ".join(runtime.reference for runtime in self._registry.active()))
        task = asyncio.create_task(self._unload_unused(), name="unload models")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _adopt(self) -> None:
        """Store the labels of new models, so that they can be used when the activation is reported as done."""
        try:
            await self._vocabularies.adopt([runtime.contract for runtime in self._registry.active()])
        except StoreUnavailable as error:
            logger.warning("the labels of new models could not be stored: %s", error)

    async def _unload_unused(self) -> None:
        routes = self._registry.routes
        kept = {f"{name}@{version}" for name, version in (*routes.versions.items(), *routes.previous.items())}
        for runtime in self._registry.loaded():
            if runtime.reference not in kept:
                with suppress(ActserveError):
                    await self._registry.unload(runtime.reference)
