"""Registry of loaded model versions: it resolves the model of a request and counts the users of each version.

A request names a model (`demo`), a version of it (`demo@2`) or an alias; without a name it uses the alias `default`.
Routes map names to versions and are replaced in one step. A version is unloaded after its last user has finished.
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
    """Loaded versions and the routes to them."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._loaded: dict[str, ModelRuntime] = {}  # by `name@version`
        self._routes: Routes | None = None
        self._users: Counter[str] = Counter()
        self._freed = asyncio.Event()

    def add(self, runtime: ModelRuntime) -> None:
        """Add a loaded version; no route refers to it yet."""
        self._loaded[runtime.reference] = runtime

    def set_routes(self, routes: Routes) -> None:
        """Use new routes from the next request on; requests in progress keep their version."""
        self._routes = routes

    @property
    def routes(self) -> Routes:
        """The current routes.

        Raises:
            EngineUnavailable: nothing is loaded yet.
        """
        if self._routes is None:
            raise EngineUnavailable("the model is still loading")
        return self._routes

    def loaded(self) -> list[ModelRuntime]:
        """Every loaded version, including those without a route."""
        return list(self._loaded.values())

    def active(self) -> list[ModelRuntime]:
        """Every loaded version that a model's name refers to."""
        versions = {} if self._routes is None else self._routes.versions
        references = [f"{name}@{version}" for name, version in versions.items()]
        return [self._loaded[reference] for reference in references if reference in self._loaded]

    def get(self, reference: str | None) -> ModelRuntime:
        """Return the runtime of a model's name, an alias, a loaded `name@version` or, for None, the default.

        Raises:
            EngineUnavailable: nothing is loaded yet.
            UnknownModel: no such model is loaded.
        """
        routes = self.routes
        wanted = ModelReference.parse(DEFAULT if reference is None else reference)
        name = routes.aliases.get(wanted.name, wanted.name)
        version = routes.versions.get(name) if wanted.version is None else wanted.version
        found = self._loaded.get(f"{name}@{version}")
        if found is None:
            known = [runtime.reference for runtime in self.loaded()]
            raise UnknownModel(f"no model {reference!r} is loaded; loaded: {', '.join(known)}", known=known)
        return found

    @contextmanager
    def use(self, reference: str | None) -> Iterator[ModelRuntime]:
        """Yield the runtime of `get`; it is not closed inside the block."""
        runtime = self.get(reference)
        with self._counted([runtime]):
            yield runtime

    @contextmanager
    def use_all(self) -> Iterator[list[ModelRuntime]]:
        """Yield every loaded version; none is closed inside the block."""
        runtimes = self.loaded()
        with self._counted(runtimes):
            yield runtimes

    async def unload(self, reference: str) -> None:
        """Unload a version without a route, after its last user has finished."""
        runtime = self._loaded.pop(reference, None)
        if runtime is None:
            return
        while self._users[reference]:
            self._freed.clear()
            await self._freed.wait()
        await runtime.engine.unload()
        await runtime.close()

    async def close(self) -> None:
        """Close every engine."""
        for runtime in self.loaded():
            await runtime.close()
        self._loaded.clear()
        self._routes = None

    @contextmanager
    def _counted(self, runtimes: list[ModelRuntime]) -> Iterator[None]:
        references = [runtime.reference for runtime in runtimes]
        self._users.update(references)
        try:
            yield
        finally:
            self._users.subtract(references)
            self._freed.set()
