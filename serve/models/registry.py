"""The model versions that are loaded, which of them a request means, and who is using them.

A request names a model (`demo`), a version of it (`demo@2`) or an alias (`default`, where it names nothing); the names
lead to versions by routes that change in one step. A version that is let go is closed when its last user is done.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from serve.errors import EngineUnavailable, UnknownModel
from serve.models.repository import ModelReference
from serve.models.routing import DEFAULT, Routes
from serve.models.runtime import ModelRuntime
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
        """Hold a loaded version; no route leads to it yet."""
        self._loaded[runtime.reference] = runtime

    def set_routes(self, routes: Routes) -> None:
        """Follow new routes from the next request on; requests under way go on with what they began with."""
        self._routes = routes

    @property
    def routes(self) -> Routes:
        """Where names lead now.

        Raises:
            EngineUnavailable: nothing is loaded yet.
        """
        if self._routes is None:
            raise EngineUnavailable("the model is still loading")
        return self._routes

    def loaded(self) -> list[ModelRuntime]:
        """Every loaded version, those no route leads to included."""
        return list(self._loaded.values())

    def active(self) -> list[ModelRuntime]:
        """Every version a model's name leads to."""
        versions = {} if self._routes is None else self._routes.versions
        references = [f"{name}@{version}" for name, version in versions.items()]
        return [self._loaded[reference] for reference in references if reference in self._loaded]

    def get(self, reference: str | None) -> ModelRuntime:
        """The runtime of a model's name, an alias, a loaded `name@version` or, for None, the default.

        Raises:
            EngineUnavailable: nothing is loaded yet.
            UnknownModel: it is not loaded.
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
        """As `get`; the runtime is not closed inside the block."""
        runtime = self.get(reference)
        with self._counted([runtime]):
            yield runtime

    @contextmanager
    def use_all(self) -> Iterator[list[ModelRuntime]]:
        """Every loaded version; none is closed inside the block."""
        runtimes = self.loaded()
        with self._counted(runtimes):
            yield runtimes

    async def unload(self, reference: str) -> None:
        """Close a version no route leads to, once its last user is done."""
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
