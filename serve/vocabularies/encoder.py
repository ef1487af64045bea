"""Encode a vocabulary for a model: text features of its prompts, and prototypes of its example clips."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.text.bank import Pace, without_pace
from serve.vocabularies.example_clips import ExampleEncoder
from serve.vocabularies.prototypes import Prototypes
from serve.vocabularies.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

MAX_CACHED_PROTOTYPES = 64  # one entry per vocabulary version with examples and model


@dataclass
class EncodingProgress:
    """Progress of encoding a new version of a vocabulary on this server process."""

    version: int
    done: int = 0  # encoded prompts and example clips, summed over the loaded models
    total: int = 0
    fault: str | None = None  # why the encoding failed


class VocabularyEncoder:
    """Encodes vocabularies for the models of a registry and caches the prototypes of their examples."""

    def __init__(self, registry: ModelRegistry, examples: ExampleEncoder) -> None:
        self._registry = registry
        self._examples = examples
        self._prototypes: LRUCache[tuple[str, str], Prototypes] = LRUCache(
            MAX_CACHED_PROTOTYPES
        )  # by references of vocabulary and model

    async def encode(self, vocabulary: Vocabulary, progress: EncodingProgress, *, pace: Pace = without_pace) -> None:
        """Encode a vocabulary for every loaded model, including models that are loaded during the call.

        `pace` is entered for each slice of prompts.

        Raises:
            ActserveError: see `encode_for`.
        """
        started = time.perf_counter()
        progress.version = vocabulary.version
        done: set[str] = set()
        while pending := {runtime.reference for runtime in self._registry.loaded()} - done:
            with self._registry.use_all() as runtimes:
                for runtime in runtimes:
                    if runtime.reference in pending:
                        await self.encode_for(runtime, vocabulary, progress, pace=pace)
            done |= pending
        logger.info("vocabulary %s encoded in %.2f s", vocabulary.reference, time.perf_counter() - started)

    async def encode_for(
        self, runtime: ModelRuntime, vocabulary: Vocabulary, progress: EncodingProgress, *, pace: Pace = without_pace
    ) -> None:
        """Encode a vocabulary for one model and update `progress`.

        Raises:
            InvalidVocabulary: a prompt is too long for the model.
            ActserveError: an example clip cannot be read.
        """
        templates = vocabulary.templates or runtime.contract.text.templates
        phrases = await asyncio.to_thread(lambda: vocabulary.phrases)  # slow for a large vocabulary
        await runtime.bank_builder.build(phrases, templates, progress=_progress_callback(progress), pace=pace)
        await self.prototypes(vocabulary, runtime, progress=_progress_callback(progress))

    async def prototypes(
        self, vocabulary: Vocabulary, runtime: ModelRuntime, *, progress: Callable[[int, int], None] | None = None
    ) -> Prototypes | None:
        """Return the prototypes of a vocabulary version under a model; None if the version has no examples.

        Raises:
            ActserveError: a clip cannot be read.
        """
        if not vocabulary.examples:
            return None
        key = (vocabulary.reference, runtime.reference)
        prototypes = self._prototypes.get(key)
        if prototypes is None:
            prototypes = await self._examples.prototypes(vocabulary, runtime, progress=progress)
            assert prototypes is not None, "the vocabulary has examples"
            self._prototypes[key] = prototypes
        return prototypes


def _progress_callback(progress: EncodingProgress) -> Callable[[int, int], None]:
    """Return a callback (done, total) that adds to the counts `progress` has at the time of this call."""
    done, total = progress.done, progress.total

    def count(items_done: int, items: int) -> None:
        progress.done, progress.total = done + items_done, total + items

    return count
