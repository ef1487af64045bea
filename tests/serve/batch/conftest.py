"""An archive of short rendered videos."""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from serve.cli.main import main

LABELS = "walking,waving,bowing"


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four videos, a file that is none, and a list that also names a missing file."""
    from training.demo.captions import combinations
    from training.demo.videos import render_video, write_video

    folder = tmp_path_factory.mktemp("archive")
    for number, combination in enumerate(combinations()[:4]):
        video = render_video(combination, "test", number, size=96)
        write_video(folder / f"{number}.mp4", video.frames, fps=video.fps)
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "list.txt").write_text(f"{folder}\n{folder / 'absent.mp4'}\n")
    return folder


@pytest.fixture(scope="session")
def run() -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Runs `actserve batch` in this process: (exit status, counts, standard error)."""

    def run(*words: object) -> tuple[int, dict[str, Any], str]:
        status = 0
        with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as errors:
            try:
                main(["batch", *map(str, words), "--model", "demo", "--json"])
            except SystemExit as end:
                status = int(end.code or 0)
        return status, json.loads(printed.getvalue() or "{}"), errors.getvalue()

    return run


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of all files of a kind, in order of the parts."""
    files: Sequence[Path] = sorted((folder / kind).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
