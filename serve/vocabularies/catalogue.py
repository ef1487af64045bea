"""The vocabularies known to this server process: the newest version and the version in use of each name.

A change is first committed to the store (`latest`). The new version becomes `current` once all its prompts and examples
are encoded for every loaded model; until then requests use the previous version.
"""

import asyncio

from cachetools import LRUCache

from serve.contract import ModelContract
from serve.errors import EngineUnavailable, UnknownVocabulary
from serve.version_numbers import MAX_VERSION, parse_version
from serve.vocabularies.built_in import KINETICS
from serve.vocabularies.encoder import EncodingProgress
from serve.vocabularies.store import VersionInfo, VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary

MAX_OLD_VERSIONS = 16  # number of versions cached in memory besides the current ones


class Catalogue:
    """Looks up vocabularies by name; the encoding queue and the store follower update it."""

    def __init__(self, store: VocabularyStore) -> None:
        self._store = store
        self._current: dict[str, Vocabulary] = {}
        self._latest: dict[str, int] = {}
        self._old: LRUCache[tuple[str, int], Vocabulary] = LRUCache(MAX_OLD_VERSIONS)
        self.encodings: dict[str, EncodingProgress] = {}  # by name, if the newest version is not current

    async def load(self) -> None:
        """Read the newest version of every vocabulary and make it current; the caller must queue the encoding.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        self._latest = await asyncio.to_thread(self._store.latest_versions)
        for name in self._latest:
            self._current[name] = await asyncio.to_thread(self._store.load, name)

    def names(self) -> list[str]:
        """Return the names of all vocabularies, sorted, including those that are being encoded for the first time."""
        return sorted(self._latest)

    def latest_versions(self) -> dict[str, int]:
        """Return the newest committed version by name, as known to this server process."""
        return dict(self._latest)

    def latest(self, name: str) -> int:
        """Return the newest committed version of a name, as known to this server process; 0 if there is none."""
        return self._latest.get(name, 0)

    def current_version(self, name: str) -> int | None:
        """Return the number of the version in use; None if no version is in use yet."""
        vocabulary = self._current.get(name)
        return None if vocabulary is None else vocabulary.version

    def current_vocabularies(self) -> list[Vocabulary]:
        """Return the current version of every name."""
        return list(self._current.values())

    def is_current(self, vocabulary: Vocabulary) -> bool:
        """Return whether this version or a later one is in use."""
        current = self._current.get(vocabulary.name)
        return current is not None and current.version >= vocabulary.version

    def current(self, name: str) -> Vocabulary:
        """Return the version in use.

        Raises:
            UnknownVocabulary: there is no such name.
            EngineUnavailable: the vocabulary is being encoded for the first time, or its encoding failed.
        """
        vocabulary = self._current.get(name)
        if vocabulary is None and name in self._latest:
            encoding = self.encodings.get(name, EncodingProgress(version=self._latest[name]))
            state = encoding.fault or f"{encoding.done} of {encoding.total} prompts are encoded"
            raise EngineUnavailable(f"vocabulary {name!r} is not in use yet: {state}", name=name)
        if vocabulary is None:
            raise UnknownVocabulary(f"there is no vocabulary {name!r}", known=sorted(self._current)[:100])
        return vocabulary

    async def resolve(self, reference: str) -> Vocabulary:
        """Return the vocabulary of a reference: `name` for the current version, or `name@version`.

        Raises:
            UnknownVocabulary: there is no such name, or the store does not (or no longer) have the version.
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
        vocabulary = self._old.get((name, number))
        if vocabulary is None:
            vocabulary = self._old[name, number] = await asyncio.to_thread(self._store.load, name, number)
        return vocabulary

    async def look_up(self, reference: str) -> Vocabulary:
        """Return a vocabulary for display: like `resolve`, but the newest version if no version is in use yet.

        Raises:
            UnknownVocabulary: there is no such name or version.
        """
        if reference in self._latest and reference not in self._current:
            return await asyncio.to_thread(self._store.load, reference)
        return await self.resolve(reference)

    def default_for(self, contract: ModelContract) -> Vocabulary:
        """Return the default vocabulary for a model: its default labels if it has any, otherwise Kinetics-400.

        Raises:
            UnknownVocabulary: both were deleted.
        """
        model_labels = contract.name.lower()
        return self.current(model_labels if model_labels in self._current else KINETICS)

    async def versions(self, name: str, *, before: int | None, limit: int) -> list[VersionInfo]:
        """Return the versions of a name that the store keeps, newest first.

        Raises:
            UnknownVocabulary: there is no such name.
        """
        return await asyncio.to_thread(self._store.versions, name, before=before, limit=limit)

    def update_latest(self, latest: dict[str, int]) -> list[str]:
        """Set the newest versions by name, remove other names, and return the names with a new version."""
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
        """Use an encoded version for requests, unless its name has been deleted meanwhile."""
        if vocabulary.name in self._latest:
            self._current[vocabulary.name] = vocabulary
            self.encodings.pop(vocabulary.name, None)
