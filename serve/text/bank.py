"""Compute banks, the text features of all prompts of a vocabulary, and cache the features of each prompt.

The caches in memory and on disk are keyed by prompt and belong to one model version. After a change of one label only
its prompts are encoded, one per template, and labels that several vocabularies share are encoded once. For X-CLIP the
features are those before its prompt head.

A bank is computed in slices of labels, so that the features of single prompts take little memory beside it and other
work runs between two slices. The limit of memory counts banks, also those that are being computed, and single prompts.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

import numpy as np
from cachetools import LRUCache

from serve import scoring
from serve.arrays import Float32Array, Int64Array
from serve.contract import ModelContract
from serve.errors import EngineFailure, InvalidVocabulary
from serve.store.feature_cache import FeatureCache
from serve.text import prompts
from serve.text.merges import MergeFinder, Merges
from serve.text.tokenizer import Tokenizer, pad_tokens

MAX_CACHED_MERGES = 64  # one entry per list of phrases and template
SLICE_PROMPTS = 256  # at least, in one slice of a bank
ROWS_SHARE = 8  # one part in so many of the memory is for features of single prompts
ROW_OVERHEAD_BYTES = 400  # of the objects of Python: the text of a prompt, its features and their entry

Progress = Callable[[int, int], None]  # (prompts done, total)
Pace = Callable[[int], AbstractAsyncContextManager[None]]  # waits until so many prompts may be encoded


class TextEncoder(Protocol):
    """Runs the text graph of one model version; every engine implements this."""

    contract: ModelContract

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        """Encode tokens [R, L] to features [R, D]."""
        ...


class PromptBank:
    """Computes banks for one model version; caches features in memory (LRU) and on disk."""

    def __init__(
        self,
        encoder: TextEncoder,
        tokenizer: Tokenizer,
        *,
        max_batch_size: int,
        max_bytes: int,
        disk_cache: FeatureCache | None = None,
    ) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._disk_cache = disk_cache
        self._max_batch_size = max_batch_size
        row_bytes = 4 * encoder.contract.embed_dim + ROW_OVERHEAD_BYTES
        self._features: LRUCache[str, Float32Array] = LRUCache(max(1, max_bytes // ROWS_SHARE // row_bytes))  # -> [D]
        self._max_bank_bytes = max_bytes - max_bytes // ROWS_SHARE
        self._banks: LRUCache[tuple[tuple[str, ...], tuple[str, ...]], Float32Array] = LRUCache(
            self._max_bank_bytes, getsizeof=lambda bank: bank.nbytes
        )
        self._building_bytes = 0  # of the banks that are being computed
        self._merge_finder = MergeFinder(tokenizer)
        self._merges: LRUCache[tuple[tuple[str, ...], str], Merges] = LRUCache(MAX_CACHED_MERGES)
        self._encode_lock = asyncio.Lock()
        self.encoded_prompts = 0  # since the model was loaded, for metrics and tests

    def close(self) -> None:
        """Close the cache on disk."""
        if self._disk_cache is not None:
            self._disk_cache.close()

    @property
    def memory_bytes(self) -> int:
        """Memory of banks and of single prompts, in bytes."""
        rows = len(self._features) * (4 * self._encoder.contract.embed_dim + ROW_OVERHEAD_BYTES)
        return int(self._banks.currsize) + self._building_bytes + rows

    def check(self, phrases: Sequence[str], templates: Sequence[str], *, num_phrases: int) -> None:
        """Check that phrases can be encoded and that a bank of `num_phrases` fits into the cache. Blocks.

        `phrases` contains the phrases of this bank that have not been checked before.

        Raises:
            InvalidVocabulary: a prompt is longer than the model's context, or the bank does not fit into the cache.
        """
        is_averaged = self._encoder.contract.scoring.ensembling == "mean_embedding"
        needed = num_phrases * (1 if is_averaged else len(templates)) * self._encoder.contract.embed_dim * 4
        if needed > self._max_bank_bytes:
            raise InvalidVocabulary(
                f"the bank of {num_phrases} phrases in {len(templates)} templates takes {needed} bytes, at most "
                f"{self._max_bank_bytes} are allowed ({ROWS_SHARE - 1}/{ROWS_SHARE} of SERVE_LIMITS__BANK_CACHE_BYTES)",
                needed=needed,
                limit=self._max_bank_bytes,
            )
        for template in templates:
            self._tokenizer.check(template.replace("{}", phrase) for phrase in phrases)

    async def features(
        self,
        labels: Sequence[str],
        templates: Sequence[str],
        *,
        progress: Progress | None = None,
        pace: Pace = nullcontext,
    ) -> Float32Array:
        """Return the bank [M, K, D] of labels (or phrases) in templates.

        With the ensembling rule `mean_embedding` templates are averaged, so M = 1; otherwise M is the number of
        templates. Features are normalised unless the model has a prompt head.

        Raises:
            InvalidVocabulary: a prompt is longer than the model's context.
        """
        key = (tuple(labels), tuple(templates))
        bank = self._banks.get(key)
        if bank is None:
            bank = await self._build(*key, progress, pace)
            if bank.nbytes <= self._banks.maxsize:  # the labels of a request may exceed it
                self._banks[key] = bank
        return bank

    async def text_features(self, texts: Sequence[str]) -> Float32Array:
        """Return the unnormalised features [R, D] of texts, without templates.

        Raises:
            InvalidVocabulary: a text is longer than the model's context.
        """
        return await self._load_or_encode(texts)

    async def merges(self, phrases: tuple[str, ...], template: str) -> Merges:
        """Return which phrases the model does not distinguish in a template."""
        key = (phrases, template)
        merges = self._merges.get(key)
        if merges is None:
            merges = self._merges[key] = await asyncio.to_thread(self._merge_finder.find, phrases, template)
        return merges

    async def _build(
        self, labels: tuple[str, ...], templates: tuple[str, ...], progress: Progress | None, pace: Pace
    ) -> Float32Array:
        contract = self._encoder.contract
        num_rows = 1 if contract.scoring.ensembling == "mean_embedding" else len(templates)
        num_bytes = 4 * num_rows * len(labels) * contract.embed_dim
        self._make_room(num_bytes)
        self._building_bytes += num_bytes
        try:
            bank = np.empty((num_rows, len(labels), contract.embed_dim), np.float32)  # [M or 1, K, D]
            slice_size = max(1, max(SLICE_PROMPTS, self._max_batch_size) // len(templates))
            for start in range(0, len(labels), slice_size):
                part = labels[start : start + slice_size]
                async with pace(len(part) * len(templates)):
                    features = await self._load_or_encode(prompts.fill(part, templates))  # [M*k, D], template-major
                bank[:, start : start + len(part)] = scoring.build_bank(
                    features.reshape(len(templates), len(part), -1),
                    contract.scoring,
                    has_prompt_head=contract.has_prompt_head,
                )
                if progress is not None:
                    progress((start + len(part)) * len(templates), len(labels) * len(templates))
                await asyncio.sleep(0)  # lets other tasks run if all features are in memory
        finally:
            self._building_bytes -= num_bytes
        bank.flags.writeable = False  # shared between requests
        return bank

    def _make_room(self, num_bytes: int) -> None:
        """Remove the banks that were not used for longest, so that a new one does not exceed the limit."""
        room = self._max_bank_bytes - self._building_bytes - num_bytes
        while self._banks and self._banks.currsize > room:
            self._banks.popitem()

    async def _load_or_encode(self, filled: Sequence[str]) -> Float32Array:
        """Return the features [R, D] of prompts, from memory, from disk, or encoded."""
        features = {prompt: self._features[prompt] for prompt in filled if prompt in self._features}
        missing = [prompt for prompt in dict.fromkeys(filled) if prompt not in features]
        if missing and self._disk_cache is not None:
            features.update(await asyncio.to_thread(self._disk_cache.read, missing))
            missing = [prompt for prompt in missing if prompt not in features]
        if missing:
            await self._encode_into(missing, features)
        self._features.update(features)
        return np.stack([features[prompt] for prompt in filled])

    async def _encode_into(self, texts: Sequence[str], features: dict[str, Float32Array]) -> None:
        """Encode texts and add text -> [D] to `features`; texts are batched by length to reduce padding.

        The lock is released between batches, so that a short list does not wait for a long one.
        """
        tokens = await asyncio.to_thread(self._tokenizer.encode, texts)
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        for start in range(0, len(order), self._max_batch_size):
            batch = order[start : start + self._max_batch_size]
            async with self._encode_lock:
                # another task may have encoded some of these texts while this one waited for the lock
                encoded = {texts[i]: self._features[texts[i]] for i in batch if texts[i] in self._features}
                missing = [i for i in batch if texts[i] not in encoded]
                if missing:
                    encoded.update(await self._run_graph([texts[i] for i in missing], [tokens[i] for i in missing]))
            features.update(encoded)
            self._features.update(encoded)

    async def _run_graph(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> dict[str, Float32Array]:
        """Run the text graph once; return text -> [D]."""
        contract = self._encoder.contract.text
        length = None if contract.dynamic_length else contract.context_length
        features = await self._encoder.encode_text(pad_tokens(tokens, pad_id=contract.pad_id, length=length))  # [R, D]
        if not np.isfinite(features).all():
            raise EngineFailure("the text graph returned values that are not finite")
        rows = {text: row.copy() for text, row in zip(texts, features, strict=True)}
        if self._disk_cache is not None:
            await asyncio.to_thread(self._disk_cache.write, rows)
        self.encoded_prompts += len(texts)
        return rows
