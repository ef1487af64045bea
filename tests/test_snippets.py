"""Every block of the README and of the documents is run, page by page and in order, beside a server of its own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.running_server import READY_SECONDS, ROOT, running_server
from tests.shared_data import VIDEOS
from tests.snippets import Snippet, assert_answer, run_snippet, snippets_of
from tests.training.test_trainer import DEMO, SMALL
from tests.waiting import eventually
from training.config import as_yaml, load_config
from training.demo.captions import combinations
from training.demo.videos import render_video, write_video

PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
TENNIS = VIDEOS / "playing_tennis.mp4"  # not part of a clone: elsewhere commands run on a rendered clip
LINKED = (
    "Makefile",
    "pyproject.toml",
    "constraints.txt",
    "LICENSE",
    "README.md",
    ".venv",
    "serve",
    "examples",
    "tests",
)


def test_every_block_is_of_a_language_that_is_run_or_says_why_not() -> None:
    blocks = [snippet for name, path in PAGES.items() for snippet in snippets_of(path, name)]
    assert len(blocks) > 20
    for snippet in blocks:
        assert snippet.language in ("sh", "python", "json", "yaml", "text"), f"{snippet}: ```{snippet.language}"
        assert snippet.directive in ("", "skip", "slow", "server"), str(snippet)
        assert bool(snippet.reason) or snippet.directive != "skip", f"{snippet}: why is it skipped?"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone's, with the files that the documents name and a training run that takes seconds."""
    folder = tmp_path_factory.mktemp("clone")
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "model_repository", folder / "model_repository")
    shutil.copytree(ROOT / "training" / "configs", folder / "training" / "configs")
    small = load_config(DEMO, [*SMALL, "run.steps=4", "run.out=runs/demo", "run.evaluate_every=1000"])
    (folder / "training" / "configs" / "demo.yaml").write_text(as_yaml(small))
    (folder / "training" / "configs" / "demo_finish.yaml").write_text(
        as_yaml(load_config(DEMO, [*SMALL, "run.steps=2", "run.out=runs/demo_finish", "run.evaluate_every=1000"]))
    )
    for number, combination in enumerate(combinations()[:8]):
        video = render_video(combination, "test", number, size=96)
        name = "waving" if number % 2 else "walking"
        write_video(_made(folder / "videos" / name / f"{number}.mp4"), video.frames, fps=video.fps)
    for name in ("clip.mp4", "waving.mp4", "bowing.mp4", "other.mp4"):
        shutil.copy(folder / "videos" / "waving" / "1.mp4", folder / name)
    if TENNIS.is_file():
        shutil.copy(TENNIS, folder / "clip.mp4")
    return folder


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def environment(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of the commands: this Python, this tree, and a server with the default model."""
    settings = {"SERVE_REPOSITORY": str(material / "model_repository"), "SERVE_FEEDBACK__ENABLED": "true"}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with running_server(tmp_path_factory.mktemp("cache"), model=None, **settings) as server:
        yield {
            **os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "ACTSERVE_SERVER": server.address, "PORT": "0",
            "SERVE_CACHE_DIR": str(tmp_path_factory.mktemp("other")), "HOME": str(tmp_path_factory.mktemp("home")),
        }  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_do_what_it_says(page: str, material: Path, environment: dict[str, str]) -> None:
    run_page(page, material, environment, is_slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, path in PAGES.items() if "snippet: slow" in path.read_text("utf-8")])
def test_the_slow_blocks_too(page: str, material: Path, environment: dict[str, str]) -> None:
    run_page(page, material, environment, is_slow=True)


def run_page(page: str, folder: Path, environment: dict[str, str], *, is_slow: bool) -> None:
    """Run the blocks of one kind in order; answers are those of the command before."""
    printed = ""
    for snippet in snippets_of(PAGES[page], page):
        if snippet.language == "text" or snippet.directive == "skip" or (snippet.directive == "slow") != is_slow:
            continue
        if snippet.language == "json":
            if TENNIS.is_file():  # the answers are those for this clip
                assert_answer(printed, snippet)
        elif snippet.language == "yaml":
            read_configuration(snippet, folder)
        elif snippet.directive == "server":
            run_server(snippet, folder, environment)
        else:
            server = environment["ACTSERVE_SERVER"]
            printed = run_snippet(snippet, folder=folder, environment=environment, server=server)


def read_configuration(snippet: Snippet, folder: Path) -> None:
    """The block is a part of a training configuration that can be used."""
    whole = yaml.safe_load((folder / "training" / "configs" / "demo.yaml").read_text())
    part = yaml.safe_load(snippet.text)
    assert part
    path = folder / "part.yaml"
    path.write_text(yaml.safe_dump({**whole, **part}))
    load_config(path)


def run_server(snippet: Snippet, folder: Path, environment: dict[str, str]) -> None:
    """Start the server of a block, wait until it prints its page, and stop it."""
    if not (ROOT / ".venv" / "everything").exists():
        pytest.skip("make would install the dependencies: there is no .venv made by it here")
    log = folder / "server.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            ["bash", "-c", snippet.text], cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        assert eventually(lambda: "page " in log.read_text() or process.poll() is not None, READY_SECONDS)
        assert process.poll() is None, log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
