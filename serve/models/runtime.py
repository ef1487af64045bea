"""A loaded model version: its contract, engine, tokenizer, bank builder and caches."""

import asyncio
import hashlib
from dataclasses import dataclass

import numpy as np

from serve import scoring
from serve.arrays import Float32Array
from serve.contract import ModelContract
from serve.engines.base import Engine
from serve.engines.parity_check import ParityResult
from serve.engines.selection import start_engine
from serve.errors import EngineUnavailable
from serve.features import FeatureLayout, VideoFeatures
from serve.repository import find_contract
from serve.settings import ServeSettings
from serve.store.feature_cache import FeatureCache
from serve.text.bank import BankBuilder
from serve.text.tokenizer import Tokenizer, load_tokenizer

MAX_INLINE_LOGITS = 100_000  # number of logits up to which switching to a thread takes longer than computing them


@dataclass(frozen=True, kw_only=True)
class ModelRuntime:
    """Everything that requests need from a model version; immutable, so activations do not affect running requests."""

    contract: ModelContract
    engine: Engine
    tokenizer: Tokenizer
    bank_builder: BankBuilder
    clip_cache: FeatureCache  # features of example clips, one `serve.features.FeatureLayout` row per clip
    parity: ParityResult
    rejected_engines: dict[str, str]  # engine label -> reason

    async def close(self) -> None:
        """Close the engine, the bank builder and the caches."""
        await self.engine.close()
        self.bank_builder.close()
        self.clip_cache.close()

    async def logits(self, features: VideoFeatures, bank: Float32Array) -> Float32Array:
        """Return the logits [V, M, P] of V views for a bank [M, P, D], from the prompt head or cosine similarities."""
        if self.contract.has_prompt_head:
            per_template = [await self.engine.prompted_logits(features, rows) for rows in bank]
            return np.stack(per_template, axis=1)
        video_features = features.video_features
        if len(video_features) * bank.shape[0] * bank.shape[1] <= MAX_INLINE_LOGITS:
            return scoring.compute_logits(video_features, bank, self.contract.scoring)
        return await asyncio.to_thread(scoring.compute_logits, video_features, bank, self.contract.scoring)

    async def check_responsive(self, *, seconds: float) -> None:
        """Check that the engine responds, by encoding one text; an engine may depend on a server that is down.

        Raises:
            ServiceError: the engine does not respond within `seconds` or reports an error.
        """
        if self.engine.fault is not None:
            raise EngineUnavailable(self.engine.fault)
        text = self.contract.text
        tokens = np.full((1, 2 if text.dynamic_length else text.context_length), text.pad_id, np.int64)
        try:
            async with asyncio.timeout(seconds):
                await self.engine.encode_text(tokens)
        except TimeoutError as error:
            raise EngineUnavailable(f"{self.reference} does not respond within {seconds:g} s") from error

    @property
    def features_digest(self) -> str:
        """Digest of the graph that makes video features: features of different digests cannot be compared."""
        return features_digest(self.contract)

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.contract.name}@{self.contract.version}"


def features_digest(contract: ModelContract) -> str:
    """Return the digest of the graph that makes video features; see `ModelRuntime.features_digest`."""
    graph = contract.graphs["video"]
    return _digest((graph.sha256, *graph.external_sha256))


async def load_runtime(settings: ServeSettings, reference: str) -> ModelRuntime:
    """Load a version: verify its files, start its engine and check its parity.

    Raises:
        UnknownModel, ContractError: see `find_contract` and `start_engine`.
    """
    contract = await asyncio.to_thread(find_contract, settings.repository, reference)
    loading = asyncio.to_thread(load_tokenizer, settings.repository / contract.tokenizer_file.file, contract.text)
    started, tokenizer = await asyncio.gather(
        start_engine(contract, settings.repository, settings), loading, return_exceptions=True
    )
    if isinstance(started, BaseException):  # raised first: a wrong hash explains an unreadable tokenizer
        raise started
    if isinstance(tokenizer, BaseException):
        await started.engine.close()
        raise tokenizer
    bank_builder = BankBuilder(
        started.engine,
        tokenizer,
        max_batch_size=settings.batch.max_text_rows,
        max_bytes=settings.limits.bank_cache_bytes,
        disk_cache=FeatureCache(
            settings.cache_dir.expanduser() / "text" / f"{_text_cache_key(contract, started.engine.name)}.sqlite",
            width=contract.embed_dim,
            max_bytes=settings.limits.kept_text_bytes,
        ),
    )
    clip_cache = FeatureCache(
        settings.cache_dir.expanduser() / "clips" / f"{_clip_cache_key(contract, started.engine.name)}.sqlite",
        width=FeatureLayout.of_contract(contract).width,
        max_bytes=settings.limits.kept_clip_bytes,
    )
    return ModelRuntime(
        contract=contract,
        engine=started.engine,
        tokenizer=tokenizer,
        bank_builder=bank_builder,
        clip_cache=clip_cache,
        parity=started.parity,
        rejected_engines=started.rejected_engines,
    )


def _text_cache_key(contract: ModelContract, engine_label: str) -> str:
    """Return a digest of everything that text features depend on: graph, weights, tokenizer, cleaning and engine."""
    graph = contract.graphs["text"]
    parts = (graph.sha256, *graph.external_sha256, contract.tokenizer_file.sha256, repr(contract.text), engine_label)
    return _digest(parts)


def _clip_cache_key(contract: ModelContract, engine_label: str) -> str:
    """Return a digest of everything that clip features depend on: graph, weights, sampling, preprocessing, engine."""
    graph = contract.graphs["video"]
    return _digest(
        (graph.sha256, *graph.external_sha256, repr(contract.sampling), repr(contract.preprocess), engine_label)
    )


def _digest(parts: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
