"""The vocabularies of this gateway: what the store holds, and which version each answers with.

A change is committed first (`latest`); this gateway answers with it (`current`) once every prompt of it is encoded for
every loaded model, which happens behind a queue beside classification. Until then the version before goes on answering.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from serve.contract import ModelContract
from serve.errors import ActserveError, EngineUnavailable, StaleVersion, UnknownVocabulary
from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.settings import ServeSettings
from serve.store.database import Database
from serve.uploads import UploadFolder
from serve.version_numbers import MAX_VERSION, parse_version
from serve.video.workers import DecodePool
from serve.vocabularies.acceptance import Acceptance
from serve.vocabularies.built_in import KINETICS, built_in, seed
from serve.vocabularies.changes import Limits, VocabularyInput, VocabularyPatch, patched, replaced
from serve.vocabularies.encoding import Encoding, VocabularyEncoder
from serve.vocabularies.examples import ExampleEncoder, NewClip, with_examples, without_examples
from serve.vocabularies.label_warnings import VocabularyWarning, warnings_of
from serve.vocabularies.labels import Example
from serve.vocabularies.store import VersionFacts, VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary
from serve.vocabularies.watch import ChangeWatcher

logger = logging.getLogger(__name__)

OLD_VERSIONS_HELD = 16


class Catalogue:
    """Vocabularies by name; everything that changes them goes through here."""

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
        self._settings = settings
        self._limits = Limits(vocabularies=settings.vocabularies, requests=settings.limits)
        self.store = VocabularyStore(database, keep_versions=settings.vocabularies.keep_versions)
        self.encoder = VocabularyEncoder(registry, ExampleEncoder(pool, self.store, folder=folder, settings=settings))
        self._watcher = ChangeWatcher(
            database, poll_seconds=settings.vocabularies.poll_seconds, follow=self._follow_store
        )
        self._touched: set[str] = set()  # names this gateway changed since the store was last asked for all of them
        self._current: dict[str, Vocabulary] = {}
        self._latest: dict[str, int] = {}
        self._old: OrderedDict[tuple[str, int], Vocabulary] = OrderedDict()
        self.encodings: dict[str, Encoding] = {}
        self._committed: dict[str, Vocabulary] = {}  # by this gateway, not yet encoded
        self._wanted: asyncio.Queue[str] = asyncio.Queue()
        self._moved = asyncio.Condition()
        self._work_under_way: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Add the built-in vocabularies, load all, encode the default one.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        contracts = [runtime.contract for runtime in self._registry.active()]
        await asyncio.to_thread(seed, self.store, built_in(contracts))
        self._latest = await asyncio.to_thread(self.store.latest_versions)
        for name in self._latest:
            self._current[name] = await asyncio.to_thread(self.store.load, name)
        runtime = self._registry.get(None)
        default = self.default_for(runtime.contract)
        await runtime.bank.features(default.phrases, default.templates or runtime.contract.text.templates)
        for name in self._latest:
            self._wanted.put_nowait(name)
        self._work_under_way = asyncio.create_task(self._work())
        self._watcher.start()

    async def close(self) -> None:
        """Stop encoding and watching; the database is left as it is."""
        await self._watcher.close()
        if self._work_under_way is not None:
            self._work_under_way.cancel()
            with suppress(asyncio.CancelledError):
                await self._work_under_way

    @property
    def store_fault(self) -> str | None:
        """Why the store does not answer at present; None while it does."""
        return self._watcher.fault

    def names(self) -> list[str]:
        """Every vocabulary, those that are encoded for the first time included; sorted."""
        return sorted(self._latest)

    async def look_up(self, reference: str) -> Vocabulary:
        """As `resolve`, but to be shown: a name that is encoded for the first time is its newest version.

        Raises:
            UnknownVocabulary: no such name or version.
        """
        if reference in self._latest and reference not in self._current:
            return await asyncio.to_thread(self.store.load, reference)
        return await self.resolve(reference)

    def latest(self, name: str) -> int:
        """Newest committed version of a name, as far as this gateway knows; 0 of one that is not there."""
        return self._latest.get(name, 0)

    def current_version(self, name: str) -> int | None:
        """Number of the version this gateway answers with; None before there is one."""
        found = self._current.get(name)
        return None if found is None else found.version

    def current(self, name: str) -> Vocabulary:
        """The version this gateway answers with.

        Raises:
            UnknownVocabulary: no such name.
            EngineUnavailable: it is encoded for the first time, or could not be.
        """
        found = self._current.get(name)
        if found is None and name in self._latest:
            encoding = self.encodings.get(name, Encoding(version=self._latest[name]))
            state = encoding.fault or f"{encoding.done} of {encoding.total} prompts are encoded"
            raise EngineUnavailable(f"vocabulary {name!r} is not in use yet: {state}", name=name)
        if found is None:
            raise UnknownVocabulary(f"there is no vocabulary {name!r}", known=sorted(self._current)[:100])
        return found

    async def resolve(self, reference: str) -> Vocabulary:
        """The vocabulary of a `name`, at its current version, or `name@version`, as long as that is kept.

        Raises:
            UnknownVocabulary: no such name or version.
            EngineUnavailable: see `current`.
        """
        name, at, version = reference.partition("@")
        if not at:
            return self.current(name)
        number = parse_version(version)
        if number is None:
            raise UnknownVocabulary(f"{reference[:100]!r}: a version is a whole number from 1 to {MAX_VERSION}")
        wanted = (name, number)
        current = self._current.get(name)
        if current is not None and current.version == wanted[1]:
            return current
        if wanted not in self._old:
            self._old[wanted] = await asyncio.to_thread(self.store.load, *wanted)
            while len(self._old) > OLD_VERSIONS_HELD:
                self._old.popitem(last=False)
        self._old.move_to_end(wanted)
        return self._old[wanted]

    def default_for(self, contract: ModelContract) -> Vocabulary:
        """What a model is asked when a request names nothing: its own labels, else Kinetics-400.

        Raises:
            UnknownVocabulary: somebody deleted both.
        """
        own = contract.name.lower()
        return self.current(own if own in self._current else KINETICS)

    async def put(self, name: str, given: VocabularyInput, *, expected: int | None, author: str) -> Vocabulary:
        """Make a vocabulary (`expected` None) or replace it whole; committed when this returns.

        Raises:
            InvalidVocabulary, StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = None if expected is None else await self._expected(name, expected)
        made = await asyncio.to_thread(replaced, name, given, previous, limits=self._limits)
        return await self._commit(made, previous, author=author, note="" if previous else "created")

    async def patch(self, name: str, patch: VocabularyPatch, *, expected: int, author: str) -> Vocabulary:
        """Change parts of a vocabulary; committed when this returns.

        Raises:
            InvalidVocabulary, StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = await self._expected(name, expected)
        made = await asyncio.to_thread(patched, previous, patch, limits=self._limits)
        return await self._commit(made, previous, author=author, note="")

    async def roll_back(self, name: str, version: int, *, expected: int, author: str) -> Vocabulary:
        """Make a new version that equals an old one.

        Raises:
            StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = await self._expected(name, expected)
        made = await asyncio.to_thread(self.store.load, name, version)
        return await self._commit(made, previous, author=author, note=f"rolled back to {version}")

    async def accept(
        self, name: str, acceptance: Acceptance, thresholds: Mapping[str, float], *, expected: int, author: str
    ) -> Vocabulary:
        """Store a fitted acceptance, with thresholds of labels by label_id; others have none of their own any more.

        Raises:
            StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = await self._expected(name, expected)
        labels = tuple(replace(label, threshold=thresholds.get(label.label_id)) for label in previous.labels)
        made = replace(previous, labels=labels, acceptance=acceptance)
        return await self._commit(made, previous, author=author, note="calibrated")

    async def add_examples(
        self, name: str, label_id: str, clips: Sequence[NewClip], *, expected: int, author: str
    ) -> tuple[Vocabulary, tuple[Example, ...]]:
        """Add clips to a label, each decoded and encoded before anything is committed.

        Raises:
            InvalidVocabulary, StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
            VideoError, UnsupportedMedia: a clip cannot be used; nothing was changed.
        """
        previous = await self._expected(name, expected)
        made, examples = with_examples(previous, label_id, clips, settings=self._settings)
        files = {clip.sha256: clip.path for clip in clips}
        with self._registry.use_all() as runtimes:
            for runtime in runtimes:
                await self.encoder.examples.features(runtime, list(files), files=files)
        stored = await self._commit(made, previous, author=author, note="examples added", new_clips=files)
        return stored, examples

    async def remove_examples(
        self, name: str, label_id: str, example_id: str | None, *, expected: int, author: str
    ) -> Vocabulary:
        """Remove one example of a label, or all of them.

        Raises:
            StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = await self._expected(name, expected)
        made = without_examples(previous, label_id, example_id)
        return await self._commit(made, previous, author=author, note="examples removed")

    async def delete(self, name: str, *, expected: int) -> None:
        """Delete a name and its versions; requests under way end with what they began with.

        Raises:
            StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        await asyncio.to_thread(self.store.delete, name, expected=expected)
        self._touched.add(name)
        self._take_over({key: value for key, value in self._latest.items() if key != name})

    async def versions(self, name: str, *, before: int | None, limit: int) -> list[VersionFacts]:
        """Versions of a name, newest first."""
        return await asyncio.to_thread(self.store.versions, name, before=before, limit=limit)

    async def prepare(self, runtime: ModelRuntime, progress: Callable[[int, int], None]) -> None:
        """Encode every current vocabulary for a model that is to be used; `progress` counts vocabularies.

        When this returns, no vocabulary has changed since it was encoded.

        Raises:
            InvalidVocabulary: a prompt is too long for the model.
            ActserveError: an example clip cannot be read.
        """
        done: set[str] = set()
        while waiting := [item for item in self._current.values() if item.reference not in done]:
            for vocabulary in waiting:
                await self.encoder.encode_for(runtime, vocabulary, Encoding(version=vocabulary.version))
                await warnings_of(vocabulary, runtime)  # kept for the answer to the activation
                done.add(vocabulary.reference)
                progress(len(done), max(len(self._current), len(done)))

    async def warnings(self, runtimes: Sequence[ModelRuntime]) -> list[VocabularyWarning]:
        """Which labels of the current vocabularies these models do not tell apart."""
        return [
            warning
            for vocabulary in list(self._current.values())
            for runtime in runtimes
            for warning in await warnings_of(vocabulary, runtime)
        ]

    async def adopt(self, contracts: Sequence[ModelContract]) -> None:
        """Take over the labels that models which answer from now on were made for.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        await asyncio.to_thread(seed, self.store, built_in(contracts))
        await self._follow_store()

    async def wait_until_current(self, vocabulary: Vocabulary, *, seconds: float) -> bool:
        """Whether this gateway answers with the version, or a later one, within so many seconds."""

        def is_settled() -> bool:
            encoding = self.encodings.get(vocabulary.name)
            return self._is_current(vocabulary) or (encoding is not None and encoding.fault is not None)

        async with self._moved:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait_for(is_settled), seconds)
        return self._is_current(vocabulary)

    def _is_current(self, vocabulary: Vocabulary) -> bool:
        found = self._current.get(vocabulary.name)
        return found is not None and found.version >= vocabulary.version

    async def _expected(self, name: str, expected: int) -> Vocabulary:
        """The newest version, which has to be `expected`; a version never changes, and the commit asks again."""
        current = self._current.get(name)
        if current is not None and current.version == expected == self.latest(name):
            return current
        found = await asyncio.to_thread(self.store.load, name)
        if found.version != expected:
            raise StaleVersion(
                f"vocabulary {name!r} is at version {found.version} by now, not {expected}",
                name=name, latest=found.version,
            )  # fmt: skip
        return found

    async def _commit(
        self,
        made: Vocabulary,
        previous: Vocabulary | None,
        *,
        author: str,
        note: str,
        new_clips: Mapping[str, Path] | None = None,
    ) -> Vocabulary:
        await asyncio.to_thread(self._check_prompts, made, previous)
        signed = replace(made, author=author, note=note)
        expected = None if previous is None else previous.version
        stored = await asyncio.to_thread(self.store.commit, signed, expected=expected, new_clips=new_clips)
        self._committed[stored.name] = stored
        self._touched.add(stored.name)
        self._take_over({**self._latest, stored.name: max(stored.version, self.latest(stored.name))})
        return stored

    def _check_prompts(self, made: Vocabulary, previous: Vocabulary | None) -> None:
        """Refuse what a loaded model could not encode; phrases that were there before are not looked at again."""
        known: set[str] = set()
        if previous is not None and previous.templates == made.templates:
            known.update(previous.phrases)
        fresh = [phrase for phrase in made.phrases if phrase not in known]
        for runtime in self._registry.loaded():
            templates = made.templates or runtime.contract.text.templates
            runtime.bank.check(fresh, templates, num_phrases=len(made.phrases))

    async def _follow_store(self) -> None:
        """Take over what the store holds; names changed here while it was asked are newer than its answer.

        Raises:
            StoreUnavailable: it does not answer.
        """
        self._touched.clear()
        latest = await asyncio.to_thread(self.store.latest_versions)
        for name in self._touched:
            own = self.latest(name)
            if own == 0:
                latest.pop(name, None)
            else:
                latest[name] = max(own, latest.get(name, 0))
        self._take_over(latest)

    def _take_over(self, latest: dict[str, int]) -> None:
        """Follow the store: encode what is new, forget what is gone."""
        for name in set(self._latest) - set(latest):
            self._current.pop(name, None)
            self.encodings.pop(name, None)
            for key in [key for key in self._old if key[0] == name]:
                del self._old[key]
        changed = [name for name, version in latest.items() if self._latest.get(name) != version]
        self._latest = dict(latest)
        for name in changed:
            self.encodings[name] = Encoding(version=latest[name])
            self._wanted.put_nowait(name)

    async def _work(self) -> None:
        """Encode wanted names one after the other; each becomes current when its bank is whole."""
        while True:
            name = await self._wanted.get()
            if name not in self._latest:
                continue
            encoding = self.encodings.setdefault(name, Encoding(version=self._latest[name]))
            try:
                vocabulary = await self._newest(name)
                await self.encoder.encode(vocabulary, encoding)
            except asyncio.CancelledError:
                raise
            except ActserveError as error:
                logger.warning("vocabulary %s stays at its version: %s", name, error)
                encoding.fault = error.message
            except Exception:
                logger.exception("vocabulary %s could not be encoded", name)
                encoding.fault = "the server failed; its log has the cause"
            else:
                if name in self._latest:
                    self._current[name] = vocabulary
                    self.encodings.pop(name, None)
            async with self._moved:
                self._moved.notify_all()

    async def _newest(self, name: str) -> Vocabulary:
        """The newest version: as this gateway committed it, if nobody was after it, else from the store."""
        own = self._committed.pop(name, None)
        if own is not None and own.version == self.latest(name):
            return own
        return await asyncio.to_thread(self.store.load, name)
