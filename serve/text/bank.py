"""Compute and cache text features. A bank holds the text features of all prompts of a vocabulary.

The caches in memory and on disk are keyed by prompt and belong to one model version. When a label changes, only the
prompts of that label are encoded again, and labels that several vocabularies share are encoded once. For X-CLIP, the
cached features are the inputs of its prompt head.

A bank is computed in slices of labels: the features of single prompts take little memory, and other work runs between
two slices. The memory limit covers finished banks, banks that are being computed, and single prompts.
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
from serve.text.merged_labels import MergedLabelFinder, MergedLabels
from serve.text.tokenizer import Tokenizer, pad_tokens

MAX_CACHED_MERGED_LABELS = 64  # one entry per list of phrases and template
MIN_SLICE_PROMPTS = 256  # in one slice of a bank
PROMPT_CACHE_SHARE = 8  # 1/8 of the memory limit is for features of single prompts
PROMPT_OVERHEAD_BYTES = 400  # of Python objects per cached prompt: its text, its array and the dictionary entry

Progress = Callable[[int, int], None]  # (prompts done, total)
Pace = Callable[[int], AbstractAsyncContextManager[None]]  # waits until so many prompts may be encoded


def without_pace(num_prompts: int) -> AbstractAsyncContextManager[None]:
    """Encode at once: the default `Pace`."""
    return nullcontext()


class TextEncoder(Protocol):
    """Runs the text graph of one model version; every engine implements this."""

    contract: ModelContract

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        """Encode tokens [R, L] to features [R, D]."""
        ...


class BankBuilder:
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
        row_bytes = 4 * encoder.contract.embed_dim + PROMPT_OVERHEAD_BYTES
        max_cached_prompts = max(1, max_bytes // PROMPT_CACHE_SHARE // row_bytes)
        self._features: LRUCache[str, Float32Array] = LRUCache(max_cached_prompts)  # prompt -> [D]
        self._max_bank_bytes = max_bytes - max_bytes // PROMPT_CACHE_SHARE
        self._banks: LRUCache[tuple[tuple[str, ...], tuple[str, ...]], Float32Array] = LRUCache(
            self._max_bank_bytes, getsizeof=lambda bank: bank.nbytes
        )
        self._building_bytes = 0  # of the banks that are being computed
        self._merged_label_finder = MergedLabelFinder(tokenizer)
        self._merged_labels: LRUCache[tuple[tuple[str, ...], str], MergedLabels] = LRUCache(MAX_CACHED_MERGED_LABELS)
        self._encode_lock = asyncio.Lock()
        self.num_encoded_prompts = 0  # since the model was loaded, for metrics and tests

    def close(self) -> None:
        """Close the cache on disk."""
        if self._disk_cache is not None:
            self._disk_cache.close()

    @property
    def memory_bytes(self) -> int:
        """Memory of banks and of single prompts, in bytes."""
        rows = len(self._features) * (4 * self._encoder.contract.embed_dim + PROMPT_OVERHEAD_BYTES)
        return int(self._banks.currsize) + self._building_bytes + rows

    def check_encodable(self, phrases: Sequence[str], templates: Sequence[str], *, num_phrases: int) -> None:
        """Check that phrases can be encoded and that a bank of `num_phrases` fits into the cache. This method blocks.

        `phrases` contains the phrases of this bank that have not been checked before.

        Raises:
            InvalidVocabulary: a prompt is longer than the model's context, or the bank does not fit into the cache.
        """
        is_averaged = self._encoder.contract.scoring.ensembling == "mean_embedding"
        needed = num_phrases * (1 if is_averaged else len(templates)) * self._encoder.contract.embed_dim * 4
        if needed > self._max_bank_bytes:
            raise InvalidVocabulary(
                f"the bank of {num_phrases} phrases in {len(templates)} templates takes {needed} bytes; the limit is "
                f"{self._max_bank_bytes} bytes ({PROMPT_CACHE_SHARE - 1}/{PROMPT_CACHE_SHARE} of "
                "SERVE_LIMITS__BANK_CACHE_BYTES)",
                needed=needed,
                limit=self._max_bank_bytes,
            )
        for template in templates:
            self._tokenizer.check(template.replace("{}", phrase) for phrase in phrases)

    async def build(
        self,
        labels: Sequence[str],
        templates: Sequence[str],
        *,
        progress: Progress | None = None,
        pace: Pace = without_pace,
    ) -> Float32Array:
        """Return the bank [M, K, D] of labels (or phrases) filled into templates.

        With the ensembling rule `mean_embedding`, templates are averaged, so M = 1; otherwise M is the number of
        templates. Features are normalized unless the model has a prompt head.

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

    async def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        """Return the unnormalized features [R, D] of texts, without templates.

        Raises:
            InvalidVocabulary: a text is longer than the model's context.
        """
        return await self._load_or_encode(texts)

    async def find_merged_labels(self, phrases: tuple[str, ...], template: str) -> MergedLabels:
        """Return which phrases have identical tokens when they are filled into the template."""
        key = (phrases, template)
        merged = self._merged_labels.get(key)
        if merged is None:
            merged = await asyncio.to_thread(self._merged_label_finder.find, phrases, template)
            self._merged_labels[key] = merged
        return merged

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
            slice_size = max(1, max(MIN_SLICE_PROMPTS, self._max_batch_size) // len(templates))
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
        """Remove the least recently used banks, so that a new bank does not exceed the limit."""
        room = self._max_bank_bytes - self._building_bytes - num_bytes
        while self._banks and self._banks.currsize > room:
            self._banks.popitem()

    async def _load_or_encode(self, texts: Sequence[str]) -> Float32Array:
        """Return the features [R, D] of texts from memory or disk; texts that are in neither are encoded."""
        features = {text: self._features[text] for text in texts if text in self._features}
        missing = [text for text in dict.fromkeys(texts) if text not in features]
        if missing and self._disk_cache is not None:
            features.update(await asyncio.to_thread(self._disk_cache.read, missing))
            missing = [text for text in missing if text not in features]
        if missing:
            await self._encode_into(missing, features)
        self._features.update(features)
        return np.stack([features[text] for text in texts])

    async def _encode_into(self, texts: Sequence[str], features: dict[str, Float32Array]) -> None:
        """Encode texts and add the feature vector [D] of each to `features`.

        Batches contain texts of similar length to reduce padding. The lock is released between batches, so that a short
        list does not wait for a long one.
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
        """Run the text graph once; return the feature vector [D] of each text."""
        contract = self._encoder.contract.text
        length = None if contract.dynamic_length else contract.context_length
        features = await self._encoder.encode_text(pad_tokens(tokens, pad_id=contract.pad_id, length=length))  # [R, D]
        if not np.isfinite(features).all():
            raise EngineFailure("the text graph returned values that are not finite")
        rows = {text: row.copy() for text, row in zip(texts, features, strict=True)}
        if self._disk_cache is not None:
            await asyncio.to_thread(self._disk_cache.write, rows)
        self.num_encoded_prompts += len(texts)
        return rows
