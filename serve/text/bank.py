"""The bank: text features of all prompts of a vocabulary, encoded once and cached by prompt.

The caches in memory and on disk are keyed by prompt and belong to one model version: a changed label costs one prompt
per template, and labels that several vocabularies share are encoded once. For X-CLIP these are the features before its
prompt head.
"""

import asyncio
from collections.abc import Callable, Sequence
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
from serve.text.tokenizer import Tokenizer, pad_rows

MAX_MERGES = 64  # entries: lists of phrases under a template

Progress = Callable[[int, int], None]  # prompts done, total


class TextEncoder(Protocol):
    """Runs the text graph of one model version; every engine is one."""

    contract: ModelContract

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        """Encode tokens [R, L] to features [R, D]."""
        ...


class PromptBank:
    """Text features of prompts under one model version, in LRU caches of limited size."""

    def __init__(
        self,
        encoder: TextEncoder,
        tokenizer: Tokenizer,
        *,
        max_rows_per_run: int,
        max_bytes: int,
        kept: FeatureCache | None = None,
    ) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._kept = kept
        self._max_bytes = max_bytes
        self._max_rows = max_rows_per_run
        self._max_prompts = max(1, max_bytes // (4 * encoder.contract.embed_dim))
        self._rows: LRUCache[str, Float32Array] = LRUCache(self._max_prompts)  # prompt -> [D]
        self._banks: LRUCache[tuple[tuple[str, ...], tuple[str, ...]], Float32Array] = LRUCache(
            self._max_prompts * 4 * encoder.contract.embed_dim, getsizeof=lambda bank: bank.nbytes
        )
        self._finder = MergeFinder(tokenizer)
        self._merges: LRUCache[tuple[tuple[str, ...], str], Merges] = LRUCache(MAX_MERGES)
        self._encoding = asyncio.Lock()
        self.encoded_prompts = 0  # so far, for metrics and tests

    def close(self) -> None:
        """Close the cache on disk."""
        if self._kept is not None:
            self._kept.close()

    def check(self, phrases: Sequence[str], templates: Sequence[str], *, num_phrases: int) -> None:
        """Check that phrases can be encoded and that a bank of `num_phrases` fits into memory; blocks.

        `phrases` are those of the bank that were not checked before.

        Raises:
            InvalidVocabulary: a prompt is longer than the model's context, or the bank does not fit into memory.
        """
        is_averaged = self._encoder.contract.scoring.ensembling == "mean_embedding"
        needed = num_phrases * (1 if is_averaged else len(templates)) * self._encoder.contract.embed_dim * 4
        if needed > self._max_bytes:
            raise InvalidVocabulary(
                f"{num_phrases} phrases under {len(templates)} templates take {needed} bytes of bank, "
                f"{self._max_bytes} are allowed (SERVE_LIMITS__BANK_CACHE_BYTES)",
                needed=needed,
                limit=self._max_bytes,
            )
        for template in templates:
            self._tokenizer.encode(prompts.fill(phrases, [template]))

    async def features(
        self, labels: Sequence[str], templates: Sequence[str], *, progress: Progress | None = None
    ) -> Float32Array:
        """Bank [M, K, D] of labels (or phrases) under templates, by the contract's ensembling rule; normalised unless a
        prompt head follows.

        Under `mean_embedding` the templates are averaged: M = 1. Otherwise M is the number of templates.

        Raises:
            InvalidVocabulary: a prompt is longer than the model's context.
        """
        key = (tuple(labels), tuple(templates))
        found = self._banks.get(key)
        if found is None:
            found = await self._assemble(*key, progress)
            if found.nbytes <= self._banks.maxsize:  # labels of one request may exceed it
                self._banks[key] = found
        return found

    async def text_features(self, texts: Sequence[str]) -> Float32Array:
        """Return features [R, D] of texts as they are, not normalised.

        Raises:
            InvalidVocabulary: a text is longer than the model's context.
        """
        return await self._rows_of(texts, None)

    async def merges(self, phrases: tuple[str, ...], template: str) -> Merges:
        """Return which phrases the model does not distinguish, as prompts of a template."""
        key = (phrases, template)
        found = self._merges.get(key)
        if found is None:
            found = self._merges[key] = await asyncio.to_thread(self._finder.find, phrases, template)
        return found

    async def _assemble(
        self, labels: tuple[str, ...], templates: tuple[str, ...], progress: Progress | None
    ) -> Float32Array:
        filled = await asyncio.to_thread(prompts.fill, labels, templates)  # template-major
        rows = await self._rows_of(filled, progress)
        features = rows.reshape(len(templates), len(labels), -1)  # [M, K, D]
        contract = self._encoder.contract
        bank = scoring.build_bank(features, contract.scoring, has_prompt_head=contract.has_prompt_head)
        bank.flags.writeable = False  # shared by requests
        return bank

    async def _rows_of(self, filled: Sequence[str], progress: Progress | None) -> Float32Array:
        """Return features [R, D] of prompts: from memory, from disk, or encoded."""
        found = {prompt: self._rows[prompt] for prompt in filled if prompt in self._rows}
        absent = [prompt for prompt in dict.fromkeys(filled) if prompt not in found]
        if absent and self._kept is not None:
            found.update(await asyncio.to_thread(self._kept.read, absent))
            absent = [prompt for prompt in absent if prompt not in found]
        if absent:
            await self._encode(absent, found, progress)
        self._rows.update(found)
        return np.stack([found[prompt] for prompt in filled])

    async def _encode(self, texts: Sequence[str], found: dict[str, Float32Array], progress: Progress | None) -> None:
        """Add the features of texts to `found`; prompts of similar length share a run, which needs little padding.

        The lock is released between runs, so that a short list does not wait for a long one.
        """
        tokens = await asyncio.to_thread(self._tokenizer.encode, texts)
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        for start in range(0, len(order), self._max_rows):
            part = order[start : start + self._max_rows]
            async with self._encoding:
                rows = {texts[i]: self._rows[texts[i]] for i in part if texts[i] in self._rows}  # encoded meanwhile
                fresh = [i for i in part if texts[i] not in rows]
                if fresh:
                    rows.update(await self._run([texts[i] for i in fresh], [tokens[i] for i in fresh]))
            found.update(rows)
            self._rows.update(rows)
            if progress is not None:
                progress(start + len(part), len(texts))

    async def _run(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> dict[str, Float32Array]:
        """Run the text graph once; return prompt -> [D]."""
        contract = self._encoder.contract.text
        length = None if contract.dynamic_length else contract.context_length
        features = await self._encoder.encode_text(pad_rows(tokens, pad_id=contract.pad_id, length=length))  # [R, D]
        if not np.isfinite(features).all():
            raise EngineFailure("the text graph returned a number that is not finite")
        rows = {text: row.copy() for text, row in zip(texts, features, strict=True)}
        if self._kept is not None:
            await asyncio.to_thread(self._kept.write, rows)
        self.encoded_prompts += len(texts)
        return rows
