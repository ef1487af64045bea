"""Encode changed vocabularies one at a time in the background, while requests continue to be served."""

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress

from serve.errors import ActserveError
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.encoder import EncodingProgress, VocabularyEncoder
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


class EncodingQueue:
    """Encodes the newest version of each queued vocabulary and makes it current once it is fully encoded."""

    def __init__(self, catalogue: Catalogue, store: VocabularyStore, encoder: VocabularyEncoder) -> None:
        self._catalogue = catalogue
        self._store = store
        self._encoder = encoder
        self._names: asyncio.Queue[str] = asyncio.Queue()
        self._committed: dict[str, Vocabulary] = {}  # by name; committed by this gateway and not yet encoded
        self._changed = asyncio.Condition()
        self._worker: asyncio.Task[None] | None = None
        self.outcomes: Counter[str] = Counter()  # number of encoded vocabularies since startup: current, failed
        self.encoding_seconds = 0.0  # total duration of the encodings

    @property
    def num_queued(self) -> int:
        """Number of vocabularies that wait to be encoded."""
        return self._names.qsize()

    def start(self) -> None:
        """Start the background task."""
        self._worker = asyncio.create_task(self._work(), name="encode vocabularies")

    async def close(self) -> None:
        """Stop the background task; queued vocabularies are encoded after the next start."""
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker

    def add(self, name: str) -> None:
        """Queue the newest version of a vocabulary."""
        self._names.put_nowait(name)

    def cache_committed(self, vocabulary: Vocabulary) -> None:
        """Cache a version that this gateway committed, so that it need not be read from the store; queues nothing."""
        self._committed[vocabulary.name] = vocabulary

    async def wait_until_current(self, vocabulary: Vocabulary, *, seconds: float) -> bool:
        """Wait until the version or a later one is current, or its encoding has failed; return whether it is current.

        Waits for at most `seconds`.
        """

        def is_settled() -> bool:
            encoding = self._catalogue.encodings.get(vocabulary.name)
            return self._catalogue.is_current(vocabulary) or (encoding is not None and encoding.fault is not None)

        async with self._changed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(is_settled), seconds)
        return self._catalogue.is_current(vocabulary)

    async def _work(self) -> None:
        while True:
            name = await self._names.get()
            if self._catalogue.latest(name):
                await self._encode(name)
                async with self._changed:
                    self._changed.notify_all()

    async def _encode(self, name: str) -> None:
        started = time.perf_counter()
        latest = self._catalogue.latest(name)
        encoding = self._catalogue.encodings.setdefault(name, EncodingProgress(version=latest))
        try:
            vocabulary = await self._newest(name)
            await self._encoder.encode(vocabulary, encoding)
        except ActserveError as error:
            logger.warning("cannot encode vocabulary %s, its current version stays in use: %s", name, error)
            encoding.fault = error.message
            self.outcomes["failed"] += 1
        except Exception:
            logger.exception("cannot encode vocabulary %s, its current version stays in use", name)
            encoding.fault = "internal error; see the server log"
            self.outcomes["failed"] += 1
        else:
            self._catalogue.make_current(vocabulary)
            self.outcomes["current"] += 1
        finally:
            self.encoding_seconds += time.perf_counter() - started

    async def _newest(self, name: str) -> Vocabulary:
        """Return the newest version, from memory if this gateway committed it, otherwise from the store."""
        committed = self._committed.pop(name, None)
        if committed is not None and committed.version == self._catalogue.latest(name):
            return committed
        return await asyncio.to_thread(self._store.load, name)
