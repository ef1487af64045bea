"""State of the vocabularies on this gateway: the newest version of each name, and the version it answers with.

A change is committed to the store first (`latest`). It becomes `current` once every prompt of it is encoded for every
loaded model; until then the previous version answers.
"""

import asyncio

from cachetools import LRUCache

from serve.contract import ModelContract
from serve.errors import EngineUnavailable, UnknownVocabulary
from serve.version_numbers import MAX_VERSION, parse_version
from serve.vocabularies.built_in import KINETICS
from serve.vocabularies.encoder import EncodingProgress
from serve.vocabularies.store import VersionFacts, VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary

MAX_OLD_VERSIONS = 16  # versions other than the current ones that are held in memory


class Catalogue:
    """Reads vocabularies by name; the encoding queue and the store follower update its state."""

    def __init__(self, store: VocabularyStore) -> None:
        self._store = store
        self._current: dict[str, Vocabulary] = {}
        self._latest: dict[str, int] = {}
        self._old: LRUCache[tuple[str, int], Vocabulary] = LRUCache(MAX_OLD_VERSIONS)
        self.encodings: dict[str, EncodingProgress] = {}  # of names whose newest version is not current

    async def load(self) -> None:
        """Read the newest version of every name and make it current; the caller has it encoded.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        self._latest = await asyncio.to_thread(self._store.latest_versions)
        for name in self._latest:
            self._current[name] = await asyncio.to_thread(self._store.load, name)

    def names(self) -> list[str]:
        """Return the names of all vocabularies, sorted, including those that are being encoded for the first time."""
        return sorted(self._latest)

    def latest_versions(self) -> dict[str, int]:
        """Return name -> newest committed version, as far as this gateway knows."""
        return dict(self._latest)

    def latest(self, name: str) -> int:
        """Return the newest committed version of a name, as far as this gateway knows; 0 if there is none."""
        return self._latest.get(name, 0)

    def current_version(self, name: str) -> int | None:
        """Return the version this gateway answers with; None before there is one."""
        found = self._current.get(name)
        return None if found is None else found.version

    def current_vocabularies(self) -> list[Vocabulary]:
        """Return the current version of every name."""
        return list(self._current.values())

    def is_current(self, vocabulary: Vocabulary) -> bool:
        """Return whether this gateway answers with the version or with a later one."""
        found = self._current.get(vocabulary.name)
        return found is not None and found.version >= vocabulary.version

    def current(self, name: str) -> Vocabulary:
        """Return the version this gateway answers with.

        Raises:
            UnknownVocabulary: there is no such name.
            EngineUnavailable: it is being encoded for the first time, or the encoding failed.
        """
        found = self._current.get(name)
        if found is None and name in self._latest:
            encoding = self.encodings.get(name, EncodingProgress(version=self._latest[name]))
            state = encoding.fault or f"{encoding.done} of {encoding.total} prompts are encoded"
            raise EngineUnavailable(f"vocabulary {name!r} is not in use yet: {state}", name=name)
        if found is None:
            raise UnknownVocabulary(f"there is no vocabulary {name!r}", known=sorted(self._current)[:100])
        return found

    async def resolve(self, reference: str) -> Vocabulary:
        """Return the current version of `name`, or the version of `name@version` as long as the store keeps it.

        Raises:
            UnknownVocabulary: there is no such name or version.
            EngineUnavailable: see `current`.
        """
        name, at, version = reference.partition("@")
        if not at:
            return self.current(name)
        number = parse_version(version)
        if number is None:
            raise UnknownVocabulary(f"{reference[:100]!r}: a version is a whole number from 1 to {MAX_VERSION}")
        current = self._current.get(name)
        if current is not None and current.version == number:
            return current
        found = self._old.get((name, number))
        if found is None:
            found = self._old[name, number] = await asyncio.to_thread(self._store.load, name, number)
        return found

    async def look_up(self, reference: str) -> Vocabulary:
        """Return a vocabulary to be shown: as `resolve`, or the newest version while a name has no current one.

        Raises:
            UnknownVocabulary: there is no such name or version.
        """
        if reference in self._latest and reference not in self._current:
            return await asyncio.to_thread(self._store.load, reference)
        return await self.resolve(reference)

    def default_for(self, contract: ModelContract) -> Vocabulary:
        """Return the vocabulary of requests that name none: the labels of the model, else Kinetics-400.

        Raises:
            UnknownVocabulary: both were deleted.
        """
        own = contract.name.lower()
        return self.current(own if own in self._current else KINETICS)

    async def versions(self, name: str, *, before: int | None, limit: int) -> list[VersionFacts]:
        """Return the versions of a name that the store keeps, newest first.

        Raises:
            UnknownVocabulary: there is no such name.
        """
        return await asyncio.to_thread(self._store.versions, name, before=before, limit=limit)

    def replace_latest(self, latest: dict[str, int]) -> list[str]:
        """Take the newest versions from the store; forget names that are gone and return those that changed."""
        for name in self._latest.keys() - latest.keys():
            self._current.pop(name, None)
            self.encodings.pop(name, None)
            for key in [key for key in self._old if key[0] == name]:
                del self._old[key]
        changed = [name for name, version in latest.items() if self._latest.get(name) != version]
        self._latest = dict(latest)
        for name in changed:
            self.encodings[name] = EncodingProgress(version=latest[name])
        return changed

    def make_current(self, vocabulary: Vocabulary) -> None:
        """Answer with an encoded version from now on, unless its name was deleted meanwhile."""
        if vocabulary.name in self._latest:
            self._current[vocabulary.name] = vocabulary
            self.encodings.pop(vocabulary.name, None)
