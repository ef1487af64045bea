"""Activate models under load: stage a version next to the active one, then switch to it atomically.

Staging loads the version, checks its contract and parity, warms it up and encodes every vocabulary for it. If a step
fails, nothing changes. The previous version stays loaded, and new vocabularies are still encoded for it, so that a
rollback is also an atomic switch.
"""

import asyncio
import logging
import time
from collections import Counter
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
    StaleVersion,
    StoreUnavailable,
    UnknownModel,
)
from serve.models.registry import ModelRegistry
from serve.models.routing import DEFAULT, Routes, RouteStore
from serve.models.runtime import ModelRuntime, load_runtime
from serve.repository import ModelReference, find_contract, model_names
from serve.settings import ServeSettings

logger = logging.getLogger(__name__)

RESPONSE_TIMEOUT_SECONDS = 20.0  # for checking that a loaded version still responds


class Vocabularies(Protocol):
    """Operations on vocabularies that an activation needs."""

    async def prepare(self, runtime: ModelRuntime, progress: Callable[[int, int], None]) -> None:
        """Encode every vocabulary for a version that is not active yet; `progress` takes (done, total)."""
        ...

    async def add_default_vocabularies(self, contracts: Sequence[ModelContract]) -> None:
        """Store the default labels of active models as vocabularies; wait until they are encoded or have failed."""
        ...


@dataclass
class Staging:
    """Progress of one activation, shown by `GET /v1/models`."""

    reference: str
    stage: Literal["loading", "encoding", "active", "failed"] = "loading"
    done: int = 0  # encoded vocabularies
    total: int = 0
    fault: str | None = None  # why the activation failed
    seconds: float = 0.0


class Activation:
    """Changes the versions that names and aliases refer to; one change at a time."""

    def __init__(
        self, registry: ModelRegistry, store: RouteStore, *, settings: ServeSettings, vocabularies: Vocabularies
    ) -> None:
        self._registry = registry
        self._store = store
        self._settings = settings
        self._vocabularies = vocabularies
        self._activation_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rejected_routes: Routes | None = None  # set by another process; this one cannot serve them
        self.staging: Staging | None = None  # the most recent activation
        self.outcomes: Counter[str] = Counter()  # number of activations since startup: active, failed
        self.fault: str | None = None  # why this server process does not use the routes of the other server processes

    async def start(self) -> None:
        """Load the versions of the stored routes, or the model of the settings if there are none.

        Raises:
            UnknownModel, ContractError: a version cannot be served.
            StoreUnavailable: the database cannot be reached.
        """
        routes = await asyncio.to_thread(self._store.load)
        references = [f"{name}@{version}" for name, version in routes.versions.items()] or [self._settings.model]
        for reference in references:
            runtime = await load_runtime(self._settings, reference)
            self._registry.add(runtime)
            if not routes.versions:
                contract = runtime.contract
                routes = Routes().with_version(contract.name, contract.version).with_alias(DEFAULT, contract.name)
        self._registry.set_routes(routes)

    def watch(self, *, poll_seconds: float) -> None:
        """Start to watch for activations by other server processes that share the store."""
        task = asyncio.create_task(self._watch(poll_seconds), name="follow models")
        self._tasks.add(task)

    async def activate(
        self, name: str, version: int | None, *, alias: str | None, seconds: float, if_match: str | None = None
    ) -> bool:
        """Route `name` to a version (None: the newest on disk) and `alias` to `name`.

        Returns True if the activation finished within `seconds`. Otherwise it continues in the background, and
        `staging` shows its progress. `if_match` is the value of the header: the change is based on these routes.

        Raises:
            StaleVersion: the routes have changed; nothing was changed.
            UnknownModel: there is no such version.
            InvalidOption: the alias is the name of another model.
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
            changed = routes.with_version(name, contract.version)
            return changed if alias is None else changed.with_alias(alias, name)

        return await self._start_change(reroute, f"{name}@{contract.version}", seconds=seconds, if_match=if_match)

    async def roll_back(self, name: str, *, seconds: float, if_match: str | None = None) -> bool:
        """Route a model's name to its previous version, or an alias to its previous model.

        Returns whether this finished within `seconds`, like `activate`.

        Raises:
            UnknownModel: there is no previous version or model.
            StaleVersion, ActivationUnderWay, ModelRefused, StoreUnavailable: see `activate`.
        """
        routes = self._registry.routes
        if name in routes.previous_aliases:
            model = routes.previous_aliases[name]
            return await self._start_change(
                lambda current: current.with_alias(name, model),
                f"{model}@{routes.versions[model]}",
                seconds=seconds,
                if_match=if_match,
            )
        if name not in routes.previous:
            raise UnknownModel(f"{name!r} has no previous version to roll back to")
        version = routes.previous[name]
        return await self._start_change(
            lambda current: current.with_version(name, version),
            f"{name}@{version}",
            seconds=seconds,
            if_match=if_match,
        )

    async def close(self) -> None:
        """Cancel the activation in progress and stop watching other server processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, poll_seconds: float) -> None:
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                await self._apply_stored_routes()
            except StoreUnavailable:
                pass  # reported by the follower of the vocabularies
            except Exception:  # watching continues after any failure
                logger.exception("cannot load the models that another server process activated; trying again")

    async def _apply_stored_routes(self) -> None:
        """Load and use routes that another server process has changed."""
        stored = await asyncio.to_thread(self._store.load)
        if self._activation_lock.locked() or not stored.versions:
            return
        if stored in (self._registry.routes, self._rejected_routes):
            return
        async with self._activation_lock:
            try:
                for name, version in stored.versions.items():
                    await self._stage(f"{name}@{version}")
            except ModelRefused as error:
                self._rejected_routes = stored
                self.fault = f"another server process activated a model that cannot be served here: {error.message}"
                return
            self._swap(stored)
            self.fault = self._rejected_routes = None
            await self._store_default_labels()

    async def _start_change(
        self, reroute: Callable[[Routes], Routes], reference: str, *, seconds: float, if_match: str | None
    ) -> bool:
        """Start a task that stages a version and then applies `reroute` to the current routes.

        Returns True if the task finished within `seconds`; otherwise it continues in the background.
        """
        if self._activation_lock.locked():
            current = self.staging.reference if self.staging else "another model"
            raise ActivationUnderWay(
                f"{current} is being activated; try again when it is done",
                reference=current,
            )
        self._registry.routes.require_etag(if_match)
        await self._activation_lock.acquire()
        task = asyncio.create_task(self._stage_and_swap(reroute, reference, if_match), name=f"activate {reference}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # reported in `staging`
            return False
        task.result()
        return True

    async def _stage_and_swap(self, reroute: Callable[[Routes], Routes], reference: str, if_match: str | None) -> None:
        """Stage a version, store the new routes and use them; release the lock that `_start_change` acquired."""
        try:
            await self._stage(reference)
            routes = reroute(self._registry.routes)
            try:
                await asyncio.to_thread(self._store.save, routes, if_match=if_match)
            except (StoreUnavailable, StaleVersion) as error:
                await self._fail(error)
                raise
            self._swap(routes)
            await self._store_default_labels()
        finally:
            self._activation_lock.release()

    async def _stage(self, reference: str) -> None:
        """Load and check a version, or check that a loaded one still responds; encode all vocabularies for it.

        Raises:
            ModelRefused: one of these steps failed; the version is unloaded unless it is needed for a rollback.
        """
        started = time.perf_counter()
        staging = self.staging = Staging(reference=reference)
        try:
            if reference in {runtime.reference for runtime in self._registry.loaded()}:
                await self._registry.get(reference).check_responsive(seconds=RESPONSE_TIMEOUT_SECONDS)
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
        """Record why the staged version was not activated, unload it if it is unused, and return the reason."""
        reason = error.message if isinstance(error, ActserveError) else "internal error; see the server log"
        assert self.staging is not None, "_stage sets it"
        logger.warning("%s was not activated: %s", self.staging.reference, reason, exc_info=error)
        self.staging.stage, self.staging.fault = "failed", reason
        self.outcomes["failed"] += 1
        await self._unload_unused()
        return reason

    def _swap(self, routes: Routes) -> None:
        """Set new routes; unload unused versions, except those for a rollback, in the background."""
        self._registry.set_routes(routes)
        if self.staging is not None:
            self.staging.stage = "active"
            self.outcomes["active"] += 1
        logger.info("active models: %s", ", ".join(runtime.reference for runtime in self._registry.active()))
        task = asyncio.create_task(self._unload_unused(), name="unload models")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store_default_labels(self) -> None:
        """Store the default labels of new models, so that they are available when the activation has finished."""
        try:
            await self._vocabularies.add_default_vocabularies([runtime.contract for runtime in self._registry.active()])
        except StoreUnavailable as error:
            logger.warning("cannot store the default labels of new models: %s", error)

    async def _unload_unused(self) -> None:
        routes = self._registry.routes
        needed = {f"{name}@{version}" for name, version in (*routes.versions.items(), *routes.previous.items())}
        for runtime in self._registry.loaded():
            if runtime.reference not in needed:
                with suppress(ActserveError):
                    await self._registry.unload(runtime.reference)
