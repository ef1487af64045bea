"""Tiny models of every family, exported once for all tests of export."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer as TokenizerFile
from tokenizers import models, pre_tokenizers, processors, trainers

from export.assembly import export_checkpoint
from export.sources import override, tokenizer_bytes
from serve.contract import ModelContract, contract_path, read_contract
from tests.models import tiny_actionclip, tiny_checkpoint, tiny_rotary, tiny_siglip, tiny_xclip
from training.checkpoints.own import Checkpoint

NAME = "tiny"  # of each model in its repository
FAMILIES: dict[str, Callable[[], Checkpoint]] = {
    "clip": lambda: tiny_checkpoint("clip"),
    "actionclip": lambda: tiny_actionclip("Transf"),
    "xclip": tiny_xclip,
    "rotary": tiny_rotary,  # PE-Core
    "siglip": tiny_siglip,  # SigLIP2
}
FRAME_WISE = ("clip", "actionclip", "rotary", "siglip")
Exported = Callable[[str], Path]


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-pair tokenizer of 400 tokens, trained on a few sentences, that ends texts with <eos>."""
    file = TokenizerFile(models.BPE(unk_token="<unk>"))
    file.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<pad>", "<eos>", "<unk>"], show_progress=False)
    file.train_from_iterator(["a video of riding a bike", "clapping hands", "playing the drums", "été plage"], trainer)
    file.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    file.save(str(path))
    return path


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Exported:
    """Family -> a repository with `tiny`@1 of it, made when first asked for; tests only read it."""
    made: dict[str, Path] = {}

    def repository(family: str) -> Path:
        if family not in made:
            checkpoint = FAMILIES[family]()
            own = tokenizer_file if checkpoint.text.tokenizer == "tokenizers" else None
            ready = override(checkpoint, templates=None, tokenizer=own)
            folder = tmp_path_factory.mktemp(family)
            export_checkpoint(ready, tokenizer_bytes(ready, own), name=NAME, repository=folder)
            made[family] = folder
        return made[family]

    return repository


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Exported:
    """The same, but a copy that a test may damage."""

    def repository(family: str) -> Path:
        return Path(shutil.copytree(exported(family), tmp_path / family))

    return repository


def contract_of(repository: Path) -> ModelContract:
    """The contract of `tiny`@1."""
    return read_contract(contract_path(repository, NAME, 1))
