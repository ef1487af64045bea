"""Encode changed vocabularies in the background, while requests continue to be served.

Each vocabulary has a task, which is cancelled when its version is replaced or the vocabulary is deleted. Large ones are
encoded one at a time; all take turns slice by slice, see `serve.vocabularies.encoding_turns`.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from serve.errors import ActserveError
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.encoder import EncodingProgress, VocabularyEncoder
from serve.vocabularies.encoding_turns import EncodingTurns
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

LARGE_PHRASES = 2000  # vocabularies with more are encoded one at a time, which bounds the memory of unfinished banks
MAX_SMALL = 8  # concurrent encodings of the others


class EncodingQueue:
    """Encodes the newest version of each queued vocabulary and makes it current once it is fully encoded."""

    def __init__(self, catalogue: Catalogue, store: VocabularyStore, encoder: VocabularyEncoder) -> None:
        self._catalogue = catalogue
        self._store = store
        self._encoder = encoder
        self._turns = EncodingTurns()
        self._large, self._small = asyncio.Semaphore(1), asyncio.Semaphore(MAX_SMALL)
        self._waiting_names: list[str] | None = []  # queued before the start; None afterwards
        self._committed: dict[str, Vocabulary] = {}  # by name; committed by this gateway and not yet encoded
        self._changed = asyncio.Condition()
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by name of the vocabulary
        self._cancelled: set[asyncio.Task[None]] = set()  # until they have ended
        self._num_running = 0
        self.outcomes: Counter[str] = Counter()  # number of encoded vocabularies since startup: current, failed
        self.encoding_seconds = 0.0  # total duration of the encodings

    @property
    def num_queued(self) -> int:
        """Number of vocabularies that wait to be encoded."""
        return len(self._waiting_names or ()) + len(self._tasks) - self._num_running

    def start(self) -> None:
        """Start to encode what is queued."""
        names, self._waiting_names = self._waiting_names or [], None
        for name in names:
            self.add(name)

    async def close(self) -> None:
        """Stop; unfinished vocabularies are encoded after the next start."""
        for name in list(self._tasks):
            self._cancel(name)
        await asyncio.gather(*self._cancelled, return_exceptions=True)

    def add(self, name: str) -> None:
        """Queue the newest version of a vocabulary; the encoding of an older version is cancelled."""
        if self._waiting_names is not None:
            self._waiting_names.append(name)
            return
        self._cancel(name)
        task = self._tasks[name] = asyncio.create_task(self._work(name), name=f"encode vocabulary {name}")
        task.add_done_callback(lambda done: self._tasks.pop(name) if self._tasks.get(name) is done else None)

    def keep(self, names: Collection[str]) -> None:
        """Cancel the encodings of all other vocabularies, which are deleted."""
        for name in self._tasks.keys() - names:
            self._cancel(name)
        for name in self._committed.keys() - names:
            del self._committed[name]

    def _cancel(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            self._cancelled.add(task)
            task.add_done_callback(self._cancelled.discard)

    def cache_committed(self, vocabulary: Vocabulary) -> None:
        """Cache a version that this gateway committed, so that it need not be read from the store; queues nothing."""
        self._committed[vocabulary.name] = vocabulary

    async def wait_until_current(self, vocabulary: Vocabulary, *, seconds: float) -> bool:
        """Wait until the version or a later one is current; return whether it is current.

        The wait ends early if the encoding fails or the vocabulary is deleted.

        Waits for at most `seconds`.
        """

        def is_settled() -> bool:
            encoding = self._catalogue.encodings.get(vocabulary.name)
            has_failed = encoding is not None and encoding.fault is not None
            return has_failed or self._catalogue.is_current(vocabulary) or not self._catalogue.latest(vocabulary.name)

        async with self._changed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(is_settled), seconds)
        return self._catalogue.is_current(vocabulary)

    async def _work(self, name: str) -> None:
        try:
            await self._encode(name)
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _encode(self, name: str) -> None:
        latest = self._catalogue.latest(name)
        if not latest:
            return  # deleted meanwhile
        encoding = self._catalogue.encodings.setdefault(name, EncodingProgress(version=latest))
        try:
            async with self._small:
                vocabulary = await self._newest(name)
                num_phrases = len(await asyncio.to_thread(lambda: vocabulary.phrases))
            async with self._large if num_phrases > LARGE_PHRASES else self._small:
                with self._timed():
                    await self._encoder.encode(vocabulary, encoding, pace=partial(self._turns.take, name))
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

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._num_running += 1
        started = time.perf_counter()
        try:
            yield
        finally:
            self.encoding_seconds += time.perf_counter() - started
            self._num_running -= 1

    async def _newest(self, name: str) -> Vocabulary:
        """Return the newest version, from memory if this gateway committed it, otherwise from the store."""
        committed = self._committed.pop(name, None)
        if committed is not None and committed.version == self._catalogue.latest(name):
            return committed
        return await asyncio.to_thread(self._store.load, name)
