"""The encoding queue: changed vocabularies are encoded one after the other, beside classification."""

import asyncio
import logging
from contextlib import suppress

from serve.errors import ActserveError
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.encoder import EncodingProgress, VocabularyEncoder
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


class EncodingQueue:
    """Encodes the newest version of queued names and makes each current when all of it is encoded."""

    def __init__(self, catalogue: Catalogue, store: VocabularyStore, encoder: VocabularyEncoder) -> None:
        self._catalogue = catalogue
        self._store = store
        self._encoder = encoder
        self._names: asyncio.Queue[str] = asyncio.Queue()
        self._committed: dict[str, Vocabulary] = {}  # versions of this gateway's own commits, not yet encoded
        self._changed = asyncio.Condition()
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to encode."""
        self._worker = asyncio.create_task(self._work(), name="encode vocabularies")

    async def close(self) -> None:
        """Stop; what is queued stays as it is in the store."""
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker

    def add(self, name: str) -> None:
        """Queue the newest version of a name."""
        self._names.put_nowait(name)

    def add_committed(self, vocabulary: Vocabulary) -> None:
        """Keep a version that this gateway committed, so that it is not read from the store again."""
        self._committed[vocabulary.name] = vocabulary

    async def wait_until_current(self, vocabulary: Vocabulary, *, seconds: float) -> bool:
        """Wait until this gateway answers with the version or a later one; return whether it does so in time."""

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
        latest = self._catalogue.latest(name)
        encoding = self._catalogue.encodings.setdefault(name, EncodingProgress(version=latest))
        try:
            vocabulary = await self._newest(name)
            await self._encoder.encode(vocabulary, encoding)
        except ActserveError as error:
            logger.warning("vocabulary %s keeps its current version: %s", name, error)
            encoding.fault = error.message
        except Exception:
            logger.exception("vocabulary %s could not be encoded", name)
            encoding.fault = "internal error; see the server log"
        else:
            self._catalogue.make_current(vocabulary)

    async def _newest(self, name: str) -> Vocabulary:
        """Return the newest version: the one this gateway committed if none followed it, else that of the store."""
        own = self._committed.pop(name, None)
        if own is not None and own.version == self._catalogue.latest(name):
            return own
        return await asyncio.to_thread(self._store.load, name)
