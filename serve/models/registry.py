"""Registry of loaded model versions: resolves the model of a request and counts the users of each version.

A request names a model (`demo`), a version of it (`demo@2`) or an alias; without a name it uses the alias `default`.
Routes map names to versions and are replaced atomically. A version is unloaded after its last user has finished.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from serve.errors import EngineUnavailable, UnknownModel
from serve.models.routing import DEFAULT, Routes
from serve.models.runtime import ModelRuntime
from serve.repository import ModelReference
from serve.settings import ServeSettings


class ModelRegistry:
    """Loaded model versions, and the routes from names and aliases to them."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._loaded: dict[str, ModelRuntime] = {}  # by `name@version`
        self._routes: Routes | None = None
        self._users: Counter[str] = Counter()
        self._released = asyncio.Event()
        self._closed_batch_sizes: Counter[int] = Counter()  # of the versions that have been unloaded

    def add(self, runtime: ModelRuntime) -> None:
        """Add a loaded version, before any route refers to it."""
        self._loaded[runtime.reference] = runtime

    def set_routes(self, routes: Routes) -> None:
        """Use new routes for subsequent requests; requests in progress keep their version."""
        self._routes = routes

    @property
    def routes(self) -> Routes:
        """The current routes.

        Raises:
            EngineUnavailable: no model is loaded yet.
        """
        if self._routes is None:
            raise EngineUnavailable("the model is still loading")
        return self._routes

    def loaded(self) -> list[ModelRuntime]:
        """Return every loaded version, including versions without a route."""
        return list(self._loaded.values())

    def active(self) -> list[ModelRuntime]:
        """Return every loaded version that a model's name is routed to."""
        versions = {} if self._routes is None else self._routes.versions
        references = [f"{name}@{version}" for name, version in versions.items()]
        return [self._loaded[reference] for reference in references if reference in self._loaded]

    def batch_sizes(self) -> Counter[int]:
        """Return the number of runs of all video graphs since startup, by the number of views in a run."""
        sizes = Counter(self._closed_batch_sizes)
        for runtime in self.loaded():
            sizes.update(runtime.engine.batch_sizes)
        return sizes

    def get(self, reference: str | None) -> ModelRuntime:
        """Return the runtime for a model name, an alias or a loaded `name@version`; None stands for the default model.

        Raises:
            EngineUnavailable: no model is loaded yet.
            UnknownModel: no such model is loaded.
        """
        routes = self.routes
        requested = ModelReference.parse(DEFAULT if reference is None else reference)
        name = routes.aliases.get(requested.name, requested.name)
        version = routes.versions.get(name) if requested.version is None else requested.version
        runtime = self._loaded.get(f"{name}@{version}")
        if runtime is None:
            known = [loaded.reference for loaded in self.loaded()]
            raise UnknownModel(f"no model {reference!r} is loaded; loaded: {', '.join(known)}", known=known)
        return runtime

    @contextmanager
    def use(self, reference: str | None) -> Iterator[ModelRuntime]:
        """Yield the runtime that `get` returns; it is not closed during the block."""
        runtime = self.get(reference)
        with self._in_use([runtime]):
            yield runtime

    @contextmanager
    def use_all(self) -> Iterator[list[ModelRuntime]]:
        """Yield every loaded version; none is closed during the block."""
        runtimes = self.loaded()
        with self._in_use(runtimes):
            yield runtimes

    async def unload(self, reference: str) -> None:
        """Unload a version without a route, after its last user has finished."""
        runtime = self._loaded.pop(reference, None)
        if runtime is None:
            return
        while self._users[reference]:
            self._released.clear()
            await self._released.wait()
        await runtime.engine.unload()
        await runtime.close()
        self._closed_batch_sizes.update(runtime.engine.batch_sizes)

    async def close(self) -> None:
        """Close every engine."""
        for runtime in self.loaded():
            await runtime.close()
        self._loaded.clear()
        self._routes = None

    @contextmanager
    def _in_use(self, runtimes: list[ModelRuntime]) -> Iterator[None]:
        references = [runtime.reference for runtime in runtimes]
        self._users.update(references)
        try:
            yield
        finally:
            self._users.subtract(references)
            self._released.set()
