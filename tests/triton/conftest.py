"""One Triton server for the session, on the bundled model and small ones of every family."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.triton.core import ROOT, TritonCore, triton_core


@pytest.fixture(scope="session")
def triton_repository(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small models but the damaged version, and the bundled one."""
    folder = tmp_path_factory.mktemp("triton") / "repository"
    shutil.copytree(repository, folder)
    for part in ("text", "video"):
        shutil.rmtree(folder / f"tiny_{part}" / "3")
        shutil.copytree(ROOT / "model_repository" / f"demo_{part}", folder / f"demo_{part}")
    return folder


@pytest.fixture(scope="session")
def core(triton_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonCore]:
    """A server that takes orders to load models, and holds none yet but what tests ask for."""
    options = ("--model-control-mode=explicit",)
    with triton_core(triton_repository, tmp_path_factory.mktemp("core"), options=options) as running:
        yield running
