"""Everything of a vocabulary encoded for a model: prompts in its bank, examples as prototypes, progress counted."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from serve.models.registry import ModelRegistry
from serve.models.runtime import ModelRuntime
from serve.vocabularies.examples import ExampleEncoder
from serve.vocabularies.prototypes import Prototypes
from serve.vocabularies.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

PROTOTYPES_HELD = 64  # versions of vocabularies with examples, each under a model


@dataclass
class Encoding:
    """How far a new version of a name has come on this gateway."""

    version: int
    done: int = 0  # prompts and example clips, over all loaded models
    total: int = 0
    fault: str | None = None  # why it did not become current


class VocabularyEncoder:
    """Encodes vocabularies for the models of a registry, and holds the prototypes of their examples."""

    def __init__(self, registry: ModelRegistry, examples: ExampleEncoder) -> None:
        self._registry = registry
        self.examples = examples
        self._prototypes: OrderedDict[tuple[str, str], Prototypes] = OrderedDict()  # by vocabulary and model reference

    async def encode(self, vocabulary: Vocabulary, encoding: Encoding) -> None:
        """Have everything of a vocabulary encoded for every loaded model, those that are loaded meanwhile included."""
        started = time.perf_counter()
        encoding.version = vocabulary.version
        done: set[str] = set()
        while fresh := {runtime.reference for runtime in self._registry.loaded()} - done:
            with self._registry.use_all() as runtimes:
                for runtime in runtimes:
                    if runtime.reference in fresh:
                        await self.encode_for(runtime, vocabulary, encoding)
            done |= fresh
        logger.info("vocabulary %s encoded in %.2f s", vocabulary.reference, time.perf_counter() - started)

    async def encode_for(self, runtime: ModelRuntime, vocabulary: Vocabulary, encoding: Encoding) -> None:
        """Have everything of a vocabulary encoded for one model; `encoding` counts on.

        Raises:
            InvalidVocabulary: a prompt is too long for the model.
            ActserveError: an example clip cannot be read.
        """
        templates = vocabulary.templates or runtime.contract.text.templates
        await runtime.bank.features(vocabulary.phrases, templates, progress=_progress(encoding))
        await self.prototypes(vocabulary, runtime, progress=_progress(encoding))

    async def prototypes(
        self, vocabulary: Vocabulary, runtime: ModelRuntime, *, progress: Callable[[int, int], None] | None = None
    ) -> Prototypes | None:
        """What the examples of a version are to a model; None where it has none.

        Raises:
            ActserveError: a clip cannot be read.
        """
        if not vocabulary.examples:
            return None
        key = (vocabulary.reference, runtime.reference)
        found = self._prototypes.get(key)
        found = found or await self.examples.prototypes(vocabulary, runtime, progress=progress)
        assert found is not None, "there are examples"
        self._prototypes[key] = found
        self._prototypes.move_to_end(key)
        while len(self._prototypes) > PROTOTYPES_HELD:
            self._prototypes.popitem(last=False)
        return found


def _progress(encoding: Encoding) -> Callable[[int, int], None]:
    """Counts one model's prompts or clips on top of what was counted before."""
    done, total = encoding.done, encoding.total

    def count(prompts_done: int, prompts: int) -> None:
        encoding.done, encoding.total = done + prompts_done, total + prompts

    return count
