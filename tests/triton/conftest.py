"""One Triton server for the session, on the bundled model and small ones of every family."""

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.triton.core import CRASH, ROOT, RestartedCore, TritonCore, TritonCrash, ending_with_its_servers, raise_crash


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
def restarted_core(triton_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestartedCore]:
    """A server that takes orders to load models, and holds none yet but what tests ask for."""
    restarted = RestartedCore(triton_repository, tmp_path_factory.mktemp("core"), ("--model-control-mode=explicit",))
    yield restarted
    restarted.close()


@pytest.fixture
def core(restarted_core: RestartedCore) -> TritonCore:
    return restarted_core.running()


@pytest.fixture(autouse=True)
def crash_ends_the_test() -> Iterator[None]:
    with ending_with_its_servers():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Report the crash of a server, not what its clients saw of it."""
    try:
        return (yield)
    except TritonCrash:
        raise
    except (Exception, pytest.fail.Exception) as error:
        raise_crash(error)
        raise


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Repeat a test whose server crashed: the Python backend, which stands in for the native one, is known to."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=5, only_rerun=CRASH))
