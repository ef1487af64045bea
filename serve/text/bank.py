"""The bank: text features of all prompts of a vocabulary, encoded once and kept by prompt.

The memory is keyed by the filled template and belongs to one model version, so a changed label costs one prompt per
template and labels shared by vocabularies cost nothing. For X-CLIP these are the features before its prompt head.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from serve import scoring
from serve.arrays import Float32Array
from serve.engines.base import Engine
from serve.errors import EngineFailure
from serve.text import prompts
from serve.text.tokenizer import Tokenizer, pad_rows


class PromptBank:
    """Text features of prompts under one model version; least recently used prompts leave when memory is full."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, *, max_rows_per_run: int, max_bytes: int) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._max_rows = max_rows_per_run
        self._max_prompts = max(1, max_bytes // (4 * engine.contract.embed_dim))
        self._rows: OrderedDict[str, Float32Array] = OrderedDict()  # prompt -> [D]
        self._assembled: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], Float32Array] = OrderedDict()
        self._encoding = asyncio.Lock()
        self.encoded_prompts = 0  # so far, for metrics and tests

    async def features(self, labels: Sequence[str], templates: Sequence[str]) -> Float32Array:
        """Bank [M, K, D] of labels under templates, by the contract's ensembling rule; normalised unless a
        prompt head follows.

        Under `mean_embedding` the templates are averaged: M = 1. Otherwise M is the number of templates.

        Raises:
            InvalidVocabulary: a prompt is longer than the model's context.
        """
        key = (tuple(labels), tuple(templates))
        found = self._assembled.get(key)
        if found is None:
            found = await self._assemble(*key)
            self._remember_assembled(key, found)
        else:
            self._assembled.move_to_end(key)
        return found

    async def _assemble(self, labels: tuple[str, ...], templates: tuple[str, ...]) -> Float32Array:
        filled = await asyncio.to_thread(prompts.fill, labels, templates)  # template-major
        rows = await self._rows_of(filled)
        bank = rows.reshape(len(templates), len(labels), -1)  # [M, K, D]
        is_averaged = self._engine.contract.scoring.ensembling == "mean_embedding"
        if self._engine.contract.has_prompt_head:  # which normalises after adding the video's prompt
            bank = bank.mean(axis=0, keepdims=True) if is_averaged else bank
        else:
            bank = scoring.mean_embedding(bank) if is_averaged else scoring.unit(bank)  # averaged: [1, K, D]
        bank.flags.writeable = False  # shared by requests
        return bank

    async def _rows_of(self, filled: Sequence[str]) -> Float32Array:
        """Features [R, D] of prompts, encoding those not yet known; one encoder at a time."""
        held = {prompt: self._rows[prompt] for prompt in filled if prompt in self._rows}
        if len(held) < len(set(filled)):
            async with self._encoding:
                missing = [prompt for prompt in dict.fromkeys(filled) if prompt not in self._rows]
                held.update({prompt: self._rows[prompt] for prompt in filled if prompt in self._rows})
                held.update(await self._encode(missing))
        for prompt in held:
            self._remember(prompt, held[prompt])
        return np.stack([held[prompt] for prompt in filled])

    async def _encode(self, texts: Sequence[str]) -> dict[str, Float32Array]:
        """Prompt -> [D]; prompts of like length share a run, so few padding tokens are computed."""
        tokens = await asyncio.to_thread(self._tokenizer.encode, texts)
        contract = self._engine.contract.text
        length = None if contract.dynamic_length else contract.context_length
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        encoded: dict[str, Float32Array] = {}
        for start in range(0, len(order), self._max_rows):
            part = order[start : start + self._max_rows]
            rows = pad_rows([tokens[i] for i in part], pad_id=contract.pad_id, length=length)
            features = await self._engine.encode_text(rows)  # [R, D]
            if not np.isfinite(features).all():
                raise EngineFailure("the text graph gave a number that is not finite")
            encoded.update({texts[i]: features[n].copy() for n, i in enumerate(part)})
        self.encoded_prompts += len(texts)
        return encoded

    def _remember(self, prompt: str, row: Float32Array) -> None:
        self._rows[prompt] = row
        self._rows.move_to_end(prompt)
        while len(self._rows) > self._max_prompts:
            self._rows.popitem(last=False)

    def _remember_assembled(self, key: tuple[tuple[str, ...], tuple[str, ...]], bank: Float32Array) -> None:
        self._assembled[key] = bank
        while (
            len(self._assembled) > 1
            and sum(item.nbytes for item in self._assembled.values()) > self._max_prompts * 4 * bank.shape[-1]
        ):
            self._assembled.popitem(last=False)
