"""Commands that change vocabularies. A command based on an outdated version is rejected (HTTP status 412).

If a command raises an error, the vocabulary is unchanged. `serve.vocabularies.preconditions` compares the version that
the caller expects with the newest one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from serve.models.registry import ModelRegistry
from serve.settings import ServeSettings
from serve.vocabularies.acceptance import Acceptance
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.changes import (
    VocabularyInput,
    VocabularyLimits,
    VocabularyPatch,
    apply_patch,
    replace_vocabulary,
)
from serve.vocabularies.example_clips import ExampleEncoder, NewClip, add_examples, remove_examples
from serve.vocabularies.follower import StoreFollower
from serve.vocabularies.labels import Example
from serve.vocabularies.preconditions import require_version
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary


class VocabularyCommands:
    """Changes vocabularies; a change is committed when its method returns."""

    def __init__(
        self,
        store: VocabularyStore,
        registry: ModelRegistry,
        *,
        catalogue: Catalogue,
        follower: StoreFollower,
        examples: ExampleEncoder,
        settings: ServeSettings,
    ) -> None:
        self._store = store
        self._registry = registry
        self._catalogue = catalogue
        self._follower = follower
        self._examples = examples
        self._settings = settings
        self._limits = VocabularyLimits(vocabularies=settings.vocabularies, requests=settings.limits)

    async def put(self, name: str, document: VocabularyInput, *, expected: int | None, author: str) -> Vocabulary:
        """Create a vocabulary (`expected` is None) or replace it completely.

        Raises:
            InvalidVocabulary, StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = None if expected is None else await self.require_latest(name, expected)
        changed = await asyncio.to_thread(replace_vocabulary, name, document, previous, limits=self._limits)
        return await self._commit(changed, previous, author=author, note="" if previous else "created")

    async def patch(self, name: str, patch: VocabularyPatch, *, expected: int, author: str) -> Vocabulary:
        """Change parts of a vocabulary.

        Raises:
            InvalidVocabulary, UnknownLabel, StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = await self.require_latest(name, expected)
        changed = await asyncio.to_thread(apply_patch, previous, patch, limits=self._limits)
        return await self._commit(changed, previous, author=author, note="")

    async def roll_back(self, name: str, version: int, *, expected: int, author: str) -> Vocabulary:
        """Create a new version with the content of an old one.

        Raises:
            StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = await self.require_latest(name, expected)
        changed = await asyncio.to_thread(self._store.load, name, version)
        return await self._commit(changed, previous, author=author, note=f"rolled back to {version}")

    async def set_acceptance(
        self, name: str, acceptance: Acceptance, thresholds: Mapping[str, float], *, expected: int, author: str
    ) -> Vocabulary:
        """Store a calibrated acceptance rule and thresholds by label id; thresholds of other labels are removed.

        Raises:
            StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = await self.require_latest(name, expected)
        labels = tuple(replace(label, threshold=thresholds.get(label.label_id)) for label in previous.labels)
        changed = replace(previous, labels=labels, acceptance=acceptance)
        return await self._commit(changed, previous, author=author, note="calibrated")

    async def add_examples(
        self, name: str, label_id: str, clips: Sequence[NewClip], *, expected: int, author: str
    ) -> tuple[Vocabulary, tuple[Example, ...]]:
        """Add clips to a label; all of them are decoded and encoded before the commit.

        Raises:
            InvalidVocabulary, UnknownLabel, StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
            VideoError, UnsupportedMedia: a clip cannot be used; nothing was changed.
        """
        previous = await self.require_latest(name, expected)
        changed, examples = add_examples(previous, label_id, clips, settings=self._settings)
        files = {clip.sha256: clip.path for clip in clips}
        with self._registry.use_all() as runtimes:
            for runtime in runtimes:
                await self._examples.features(runtime, list(files), files=files)
        stored = await self._commit(changed, previous, author=author, note="examples added", new_clips=files)
        return stored, examples

    async def remove_examples(
        self, name: str, label_id: str, example_id: str | None, *, expected: int, author: str
    ) -> Vocabulary:
        """Remove one example of a label, or all of them (`example_id` is None).

        Raises:
            UnknownLabel, UnknownExample, StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        previous = await self.require_latest(name, expected)
        changed = remove_examples(previous, label_id, example_id)
        return await self._commit(changed, previous, author=author, note="examples removed")

    async def delete(self, name: str, *, expected: int) -> None:
        """Delete a vocabulary with all its versions; requests in progress continue with the version they use.

        Raises:
            StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        await asyncio.to_thread(self._store.delete, name, expected=expected)
        self._follower.record_deletion(name)

    async def require_latest(self, name: str, expected: int) -> Vocabulary:
        """Return the newest version if it is `expected`; the commit checks this again.

        Raises:
            StaleVersion, UnknownVocabulary, StoreUnavailable: nothing was changed.
        """
        if self._catalogue.current_version(name) == expected == self._catalogue.latest(name):
            return self._catalogue.current(name)  # a version never changes
        latest = await asyncio.to_thread(self._store.load, name)
        require_version(name, latest=latest.version, expected=expected)
        return latest

    async def _commit(
        self,
        changed: Vocabulary,
        previous: Vocabulary | None,
        *,
        author: str,
        note: str,
        new_clips: Mapping[str, Path] | None = None,
    ) -> Vocabulary:
        await asyncio.to_thread(self._check_prompts, changed, previous)
        signed = replace(changed, author=author, note=note)
        expected = None if previous is None else previous.version
        stored = await asyncio.to_thread(self._store.commit, signed, expected=expected, new_clips=new_clips)
        self._follower.record_commit(stored)
        return stored

    def _check_prompts(self, changed: Vocabulary, previous: Vocabulary | None) -> None:
        """Reject prompts that a loaded model cannot encode.

        Phrases of the previous version are not checked again if the templates are unchanged.
        """
        checked: set[str] = set()
        if previous is not None and previous.templates == changed.templates:
            checked.update(previous.phrases)
        new_phrases = [phrase for phrase in changed.phrases if phrase not in checked]
        for runtime in self._registry.loaded():
            templates = changed.templates or runtime.contract.text.templates
            runtime.bank_builder.check_encodable(new_phrases, templates, num_phrases=len(changed.phrases))
