"""One model version, loaded: its contract, engine, tokenizer and prompt bank."""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

from serve.contract import ModelContract, names_in, read_version, versions_of
from serve.engines.embedded import EmbeddedEngine
from serve.engines.parity import ParityFigures
from serve.engines.selection import start_engine
from serve.errors import UnknownModel
from serve.settings import ServeSettings
from serve.text.bank import PromptBank
from serve.text.kept_rows import KeptRows
from serve.text.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True, kw_only=True)
class ModelRuntime:
    """Everything a request needs of a model; immutable, so a request keeps what it began with."""

    contract: ModelContract
    engine: EmbeddedEngine
    tokenizer: Tokenizer
    bank: PromptBank
    parity: ParityFigures
    passed_over: dict[str, str]  # engine label -> why it was not taken

    async def close(self) -> None:
        """Close engine and bank."""
        await self.engine.close()
        self.bank.close()

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
    return ModelRuntime(
        contract=contract,
        engine=started.engine,
        tokenizer=tokenizer,
        bank=bank,
        parity=started.parity,
        passed_over=started.passed_over,
    )


def _text_identity(contract: ModelContract, label: str) -> str:
    """A name for everything a text feature depends on: graph, weights, tokenizer, cleaning and runtime."""
    graph = contract.graphs["text"]
    parts = (graph.sha256, *graph.external_sha256, contract.tokenizer_file.sha256, repr(contract.text), label)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
