"""Connect the parts that serve and change vocabularies: store, catalogue, encoding queue, follower and commands."""

import asyncio
from collections.abc import Callable, Sequence

from serve.contract import ModelContract
from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.settings import ServeSettings
from serve.store.database import Database
from serve.upload_folder import UploadFolder
from serve.video.workers import DecodePool
from serve.vocabularies.built_in import built_in_vocabularies, seed
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.commands import VocabularyCommands
from serve.vocabularies.encoder import EncodingProgress, VocabularyEncoder
from serve.vocabularies.encoding_queue import EncodingQueue
from serve.vocabularies.example_clips import ExampleEncoder
from serve.vocabularies.follower import StoreFollower
from serve.vocabularies.label_warnings import VocabularyWarning, vocabulary_warnings
from serve.vocabularies.store import VocabularyStore

ENCODING_WAIT_SECONDS = 60.0  # longest wait for the default labels of new models; encoding continues afterwards


class VocabularyService:
    """The vocabularies of a server process: creates, starts and stops their components."""

    def __init__(
        self,
        database: Database,
        registry: ModelRegistry,
        *,
        pool: DecodePool,
        folder: UploadFolder,
        settings: ServeSettings,
    ) -> None:
        self._registry = registry
        self.store = VocabularyStore(database, keep_versions=settings.vocabularies.keep_versions)
        examples = ExampleEncoder(pool, self.store, folder=folder, settings=settings)
        self.encoder = VocabularyEncoder(registry, examples)
        self.catalogue = Catalogue(self.store)
        self.queue = EncodingQueue(self.catalogue, self.store, self.encoder)
        self.follower = StoreFollower(
            database,
            self.store,
            catalogue=self.catalogue,
            queue=self.queue,
            poll_seconds=settings.vocabularies.poll_seconds,
        )
        self.commands = VocabularyCommands(
            self.store,
            registry,
            catalogue=self.catalogue,
            follower=self.follower,
            examples=examples,
            settings=settings,
        )

    async def start(self) -> None:
        """Store the built-in vocabularies, load all vocabularies, encode the default one and queue the others.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        contracts = [runtime.contract for runtime in self._registry.active()]
        await asyncio.to_thread(seed, self.store, built_in_vocabularies(contracts))
        await self.catalogue.load()
        runtime = self._registry.get(None)
        default = self.catalogue.default_for(runtime.contract)
        await runtime.bank_builder.build(default.phrases, default.templates or runtime.contract.text.templates)
        for name in self.catalogue.names():
            self.queue.add(name)
        self.queue.start()
        self.follower.start()

    async def close(self) -> None:
        """Stop the follower and the encoding queue."""
        await self.follower.close()
        await self.queue.close()

    async def prepare(self, runtime: ModelRuntime, progress: Callable[[int, int], None]) -> None:
        """Encode every current vocabulary for a model that is about to be activated; `progress` takes (done, total).

        Vocabularies that change during the call are encoded again before it returns.

        Raises:
            InvalidVocabulary: a prompt is too long for the model.
            ActserveError: an example clip cannot be read.
        """
        done: set[str] = set()
        while pending := [item for item in self.catalogue.current_vocabularies() if item.reference not in done]:
            for vocabulary in pending:
                await self.encoder.encode_for(runtime, vocabulary, EncodingProgress(version=vocabulary.version))
                await vocabulary_warnings(vocabulary, runtime)  # fills the cache for the response to the activation
                done.add(vocabulary.reference)
                progress(len(done), max(len(self.catalogue.current_vocabularies()), len(done)))

    async def add_default_vocabularies(self, contracts: Sequence[ModelContract]) -> None:
        """Store the default labels of active models as vocabularies; wait until they are encoded or have failed.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        vocabularies = built_in_vocabularies(contracts)
        await asyncio.to_thread(seed, self.store, vocabularies)
        await self.follower.follow()
        for vocabulary in vocabularies:
            await self.queue.wait_until_current(vocabulary, seconds=ENCODING_WAIT_SECONDS)

    async def warnings(self, runtimes: Sequence[ModelRuntime]) -> list[VocabularyWarning]:
        """Return warnings about labels of the current vocabularies that these models do not distinguish."""
        return [
            warning
            for vocabulary in self.catalogue.current_vocabularies()
            for runtime in runtimes
            for warning in await vocabulary_warnings(vocabulary, runtime)
        ]
