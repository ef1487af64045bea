"""Tiny models of every family, exported once for all tests of export."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from export.exporter import export_checkpoint
from export.loading import apply_options, read_tokenizer
from serve.contract import ModelContract, read_contract
from serve.repository import contract_path
from tests.models import FAMILIES, write_tokenizer

NAME = "tiny"  # of each model in its repository
FRAME_WISE = ("clip", "actionclip", "rotary", "siglip", "concepts")
Exported = Callable[[str], Path]


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer file of 400 tokens."""
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Exported:
    """Family -> a repository with `tiny`@1 of it, made when first asked for; tests only read it."""
    made: dict[str, Path] = {}

    def repository(family: str) -> Path:
        if family not in made:
            checkpoint = FAMILIES[family]()
            own = tokenizer_file if checkpoint.text.tokenizer == "tokenizers" else None
            ready = apply_options(checkpoint, templates=None, tokenizer=own)
            folder = tmp_path_factory.mktemp(family)
            export_checkpoint(ready, read_tokenizer(ready, own), name=NAME, repository=folder)
            made[family] = folder
        return made[family]

    return repository


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Exported:
    """The same, but a copy that a test may damage."""

    def repository(family: str) -> Path:
        return Path(shutil.copytree(exported(family), tmp_path / family))

    return repository


def make_contract(repository: Path) -> ModelContract:
    """The contract of `tiny`@1."""
    return read_contract(contract_path(repository, NAME, 1))
