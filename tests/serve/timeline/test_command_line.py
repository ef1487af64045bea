"""`actserve timeline` in a process of its own: the printed segments, the files, and what is refused before any work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.serve.timeline.conftest import Stitched


def actserve(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serve.cli", "timeline", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


def test_segments_are_printed_and_written(stitched: Stitched, folder: Path) -> None:
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video")
    files = ("--csv", "--srt", "--vtt", "--plot", "--out", str(folder / "files"))
    found = actserve(str(stitched.path), str(broken), "--model", "demo", "--json", *files, folder=folder)
    assert found.returncode == 1, found.stderr
    line, problem = map(json.loads, found.stdout.splitlines())
    assert (line["index"], line["input"], line["kind"]) == (0, str(stitched.path), "timeline")
    answer = line["result"]
    assert [item["label"] for item in answer["segments"]] == [label for label, _, _ in stitched.actions]
    assert problem["problem"]["type"] == "/problems/unsupported-media"
    written = sorted(path.name for path in (folder / "files").iterdir())
    assert written == ["actions.csv", "actions.png", "actions.srt", "actions.vtt"]
    assert (folder / "files" / "actions.srt").read_text().count("-->") == len(answer["segments"])
    with Image.open(folder / "files" / "actions.png") as picture:
        assert picture.width > picture.height
        assert len(picture.convert("L").getcolors() or ()) > 2


@pytest.mark.parametrize("words", [
    ("--window", "1", "--stride", "2"), ("--threshold-off", "0.4"), ("--out", "files"), ("--threshold-on", "2"),
])  # fmt: skip
def test_wrong_options_end_with_2_before_a_model_is_loaded(stitched: Stitched, folder: Path, words: list[str]) -> None:
    found = actserve(str(stitched.path), *words, folder=folder)
    assert found.returncode == 2
    assert len(found.stderr.splitlines()) == 1


def test_an_existing_file_is_not_overwritten(stitched: Stitched, tmp_path: Path) -> None:
    (tmp_path / "actions.srt").write_text("mine")
    found = actserve(str(stitched.path), "--srt", folder=tmp_path)
    assert found.returncode == 2
    assert "already exists" in found.stderr
    assert (tmp_path / "actions.srt").read_text() == "mine"
