"""One model version, loaded: its contract, engine, tokenizer and prompt bank."""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve import scoring
from serve.arrays import Float32Array
from serve.contract import ModelContract, names_in, read_version, versions_of
from serve.engines.base import VideoFeatures
from serve.engines.embedded import EmbeddedEngine
from serve.engines.parity import ParityFigures
from serve.engines.selection import start_engine
from serve.errors import UnknownModel
from serve.settings import ServeSettings
from serve.store.kept_rows import KeptRows
from serve.text.bank import PromptBank
from serve.text.tokenizer import Tokenizer, load_tokenizer

INLINE_LOGITS = 100_000  # views x templates x phrases; below it a thread costs more than the arithmetic


@dataclass(frozen=True, kw_only=True)
class ModelRuntime:
    """Everything a request needs of a model; immutable, so a request keeps what it began with."""

    contract: ModelContract
    engine: EmbeddedEngine
    tokenizer: Tokenizer
    bank: PromptBank
    kept_clips: KeptRows  # features of example clips, patch features behind them where the family has any
    parity: ParityFigures
    passed_over: dict[str, str]  # engine label -> why it was not taken

    async def close(self) -> None:
        """Close engine, bank and kept features."""
        await self.engine.close()
        self.bank.close()
        self.kept_clips.close()

    async def logits(self, features: VideoFeatures, bank: Float32Array) -> Float32Array:
        """Features of V views against a bank [M, P, D] -> logits [V, M, P], by the family's head or by cosine."""
        if self.contract.has_prompt_head:
            per_template = [await self.engine.prompted_logits(features, rows) for rows in bank]
            return np.stack(per_template, axis=1)
        video_features = features.video_features
        if len(video_features) * bank.shape[0] * bank.shape[1] <= INLINE_LOGITS:
            return scoring.logits_of(video_features, bank, self.contract.scoring)
        return await asyncio.to_thread(scoring.logits_of, video_features, bank, self.contract.scoring)

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.contract.name}@{self.contract.version}"


def find_contract(repository: Path, reference: str) -> ModelContract:
    """Read the contract of a `name` (its latest version) or `name@version`.

    Raises:
        UnknownModel: the repository has no such model or version.
        ContractError: the contract cannot be honoured, or lies under another name or version than it says.
    """
    name, _, wanted = reference.partition("@")
    versions = versions_of(repository, name) if name in names_in(repository) else []
    if not versions or (wanted and wanted not in map(str, versions)):
        known = [f"{other}@{number}" for other in names_in(repository) for number in versions_of(repository, other)]
        raise UnknownModel(
            f"{repository} holds no model {reference!r}; it holds {', '.join(known) or 'none'}", known=known
        )
    version = int(wanted) if wanted else versions[-1]
    return read_version(repository, name, version)


async def load_runtime(settings: ServeSettings, reference: str) -> ModelRuntime:
    """Stage a version: verify its files, start its engine, check its parity.

    Raises:
        UnknownModel, ContractError: see `find_contract` and `start_engine`.
    """
    contract = find_contract(settings.repository, reference)
    loading = asyncio.to_thread(load_tokenizer, settings.repository / contract.tokenizer_file.file, contract.text)
    started, tokenizer = await asyncio.gather(start_engine(contract, settings.repository, settings), loading)
    bank = PromptBank(
        started.engine,
        tokenizer,
        max_rows_per_run=settings.batch.max_text_rows,
        max_bytes=settings.limits.bank_cache_bytes,
        kept=KeptRows(
            settings.cache_dir.expanduser() / "text" / f"{_text_identity(contract, started.engine.label)}.sqlite",
            width=contract.embed_dim,
            max_bytes=settings.limits.kept_text_bytes,
        ),
    )
    kept_clips = KeptRows(
        settings.cache_dir.expanduser() / "clips" / f"{_clip_identity(contract, started.engine.label)}.sqlite",
        width=contract.embed_dim * (1 + contract.num_patches),
        max_bytes=settings.limits.kept_clip_bytes,
    )
    return ModelRuntime(
        contract=contract,
        engine=started.engine,
        tokenizer=tokenizer,
        bank=bank,
        kept_clips=kept_clips,
        parity=started.parity,
        passed_over=started.passed_over,
    )


def _text_identity(contract: ModelContract, label: str) -> str:
    """A name for everything a text feature depends on: graph, weights, tokenizer, cleaning and runtime."""
    graph = contract.graphs["text"]
    parts = (graph.sha256, *graph.external_sha256, contract.tokenizer_file.sha256, repr(contract.text), label)
    return _digest(parts)


def _clip_identity(contract: ModelContract, label: str) -> str:
    """A name for everything a clip's features depend on: graph, weights, sampling, pixels and runtime."""
    graph = contract.graphs["video"]
    return _digest((graph.sha256, *graph.external_sha256, repr(contract.sampling), repr(contract.preprocess), label))


def _digest(parts: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
