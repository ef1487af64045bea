"""Encoding of a vocabulary for a model: prompts go into its bank, example clips become prototypes."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.vocabularies.example_clips import ExampleEncoder
from serve.vocabularies.prototypes import Prototypes
from serve.vocabularies.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

MAX_PROTOTYPES = 64  # entries: versions of vocabularies with examples, each under one model


@dataclass
class EncodingProgress:
    """Progress of a new version of a vocabulary on this gateway."""

    version: int
    done: int = 0  # prompts and example clips, over all loaded models
    total: int = 0
    fault: str | None = None  # why it did not become current


class VocabularyEncoder:
    """Encodes vocabularies for the models of a registry and caches the prototypes of their examples."""

    def __init__(self, registry: ModelRegistry, examples: ExampleEncoder) -> None:
        self._registry = registry
        self._examples = examples
        self._prototypes: LRUCache[tuple[str, str], Prototypes] = LRUCache(MAX_PROTOTYPES)  # by vocabulary and model

    async def encode(self, vocabulary: Vocabulary, progress: EncodingProgress) -> None:
        """Encode a vocabulary for every loaded model, including models that are loaded meanwhile.

        Raises:
            ActserveError: see `encode_for`.
        """
        started = time.perf_counter()
        progress.version = vocabulary.version
        done: set[str] = set()
        while fresh := {runtime.reference for runtime in self._registry.loaded()} - done:
            with self._registry.use_all() as runtimes:
                for runtime in runtimes:
                    if runtime.reference in fresh:
                        await self.encode_for(runtime, vocabulary, progress)
            done |= fresh
        logger.info("vocabulary %s encoded in %.2f s", vocabulary.reference, time.perf_counter() - started)

    async def encode_for(self, runtime: ModelRuntime, vocabulary: Vocabulary, progress: EncodingProgress) -> None:
        """Encode a vocabulary for one model and add to `progress`.

        Raises:
            InvalidVocabulary: a prompt is too long for the model.
            ActserveError: an example clip cannot be read.
        """
        templates = vocabulary.templates or runtime.contract.text.templates
        await runtime.bank.features(vocabulary.phrases, templates, progress=_counter(progress))
        await self.prototypes(vocabulary, runtime, progress=_counter(progress))

    async def prototypes(
        self, vocabulary: Vocabulary, runtime: ModelRuntime, *, progress: Callable[[int, int], None] | None = None
    ) -> Prototypes | None:
        """Return the prototypes of a version's examples under a model; None if it has no examples.

        Raises:
            ActserveError: a clip cannot be read.
        """
        if not vocabulary.examples:
            return None
        key = (vocabulary.reference, runtime.reference)
        found = self._prototypes.get(key)
        if found is None:
            found = await self._examples.prototypes(vocabulary, runtime, progress=progress)
            assert found is not None, "there are examples"
            self._prototypes[key] = found
        return found


def _counter(progress: EncodingProgress) -> Callable[[int, int], None]:
    """Return a callback that counts one model's prompts or clips on top of what was counted before."""
    done, total = progress.done, progress.total

    def count(items_done: int, items: int) -> None:
        progress.done, progress.total = done + items_done, total + items

    return count
