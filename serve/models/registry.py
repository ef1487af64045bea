"""The model versions that are loaded, and which of them a request means."""

from serve.contract import ModelContract, names_in, read_version, versions_of
from serve.errors import ContractError, EngineUnavailable, UnknownModel
from serve.models.runtime import ModelRuntime, load_runtime
from serve.settings import ServeSettings


class ModelRegistry:
    """Loaded versions by name; `settings.model` names the default."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._active: dict[str, ModelRuntime] = {}
        self._default: str | None = None

    async def start(self) -> None:
        """Load the default model.

        Raises:
            UnknownModel, ContractError: it cannot be served.
        """
        runtime = await load_runtime(self._settings, self._settings.model)
        self._active[runtime.contract.name] = runtime
        self._default = runtime.contract.name

    def active(self) -> list[ModelRuntime]:
        """Every loaded version."""
        return list(self._active.values())

    def get(self, reference: str | None) -> ModelRuntime:
        """The runtime of a `name`, `name@version` or, for None, the default.

        Raises:
            EngineUnavailable: nothing is loaded yet.
            UnknownModel: it is not loaded.
        """
        if self._default is None:
            raise EngineUnavailable("the model is still loading")
        if reference is None:
            return self._active[self._default]
        name, _, version = reference.partition("@")
        found = self._active.get(name)
        if found is None or (version and version != str(found.contract.version)):
            known = [runtime.reference for runtime in self.active()]
            raise UnknownModel(f"no model {reference!r} is loaded; loaded: {', '.join(known)}", known=known)
        return found

    def on_disk(self) -> list[tuple[str, int, ModelContract | ContractError]]:
        """Every version of the repository folder with its contract, or why it cannot be served."""
        found: list[tuple[str, int, ModelContract | ContractError]] = []
        for name in names_in(self._settings.repository):
            for version in versions_of(self._settings.repository, name):
                try:
                    contract: ModelContract | ContractError = read_version(self._settings.repository, name, version)
                except ContractError as error:
                    contract = error
                found.append((name, version, contract))
        return found

    async def close(self) -> None:
        """Close every engine."""
        for runtime in self.active():
            await runtime.close()
        self._active.clear()
        self._default = None
