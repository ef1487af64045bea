"""The wheel brings the models along: installed, it serves the starter model from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.running_server import ROOT, running_server
from tests.waiting import PATIENCE_SECONDS

SOURCES = ("serve", "export", "training", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
BUNDLED = ("demo_text", "demo_video", "starter_text", "starter_video")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs; the wheel is built from a copy, so nothing is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    for name in BUNDLED:
        shutil.copytree(ROOT / "model_repository" / name, source / "model_repository" / name)
    other = source / "model_repository" / "mine_video" / "1"
    other.mkdir(parents=True)
    (other / "contract.json").write_text("{}")
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out)]
    done = subprocess.run([sys.executable, *build, str(source)], capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("actserve-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


@pytest.mark.slow
def test_the_wheel_holds_the_bundled_models_and_no_others(installed: Path) -> None:
    folder = installed / "model_repository"
    assert sorted(path.name for path in folder.iterdir()) == sorted(BUNDLED)
    for name in BUNDLED:
        here, there = (
            {
                path.relative_to(root).as_posix(): path.stat().st_size
                for path in (root / name).rglob("*")
                if path.is_file()
            }
            for root in (ROOT / "model_repository", folder)
        )
        assert here == there


@pytest.mark.slow
def test_it_serves_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    path = os.pathsep.join((str(installed), os.environ.get("PYTHONPATH", "")))
    with running_server(tmp_path / "cache", model=None, folder=empty, PYTHONPATH=path) as server:
        assert (
            httpx.get(f"{server.address}/v1/models", timeout=PATIENCE_SECONDS).json()["default"].startswith("starter@")
        )
    assert list(empty.iterdir()) == []
