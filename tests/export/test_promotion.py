"""The promotion gate: same clips, paired hits, a decision on record, and the server's model changed or left alone."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from export.errors import ExportError
from export.promotion import evaluate, read_clips
from serve.repository import read_version
from tests.running_server import ROOT, running_server
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

ACTIONS = ("bowing", "kicking", "squatting", "clapping")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rendered clips with their labels; a path holds a space."""
    folder = tmp_path_factory.mktemp("promotion clips")
    with (folder / "clips.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label"])
        for action in ACTIONS:
            for seed in range(3):
                video = render_video(Combination(action, None, "red"), "test", 700 + seed, size=100)
                write_video(folder / f"{action} {seed}.mp4", video.frames, fps=video.fps)
                writer.writerow([f"{action} {seed}.mp4", action])
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def both(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model, which knows these actions, beside small ones that know nothing."""
    folder = tmp_path_factory.mktemp("both") / "repository"
    shutil.copytree(repository, folder)
    for part in ("demo_text", "demo_video"):
        shutil.copytree(ROOT / "model_repository" / part, folder / part)
    return folder


def promote(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export", "promote", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_a_better_candidate_takes_over_and_a_worse_one_is_refused(both: Path, index: Path, tmp_path: Path) -> None:
    environment = {"SERVE_REPOSITORY": str(both), "SERVE_MODEL": "tiny@1"}
    with (
        running_server(tmp_path / "cache", **environment) as server,
        httpx.Client(base_url=server.address, timeout=60) as http,
    ):
        common = ("--clips", str(index), "--server", server.address, "--repository", str(both),
                  "--record", str(tmp_path / "record.jsonl"))  # fmt: skip
        done = promote("demo", "--alias", "default", *common)
        assert done.returncode == 0, done.stderr
        assert "promoted" in done.stdout and "default: demo@1" in done.stdout
        assert http.get("/v1/models").json()["default"] == "demo@1"
        refused = promote("tiny@2", "--alias", "default", *common)
        assert refused.returncode == 1
        assert "may be worse than demo@1" in refused.stderr
        assert http.get("/v1/models").json()["default"] == "demo@1"
        with (index.parent / "bowing 0.mp4").open("rb") as stream:
            options = {"candidate_labels": json.dumps(ACTIONS), "top_k": 1}
            answer = http.post("/v1/classify", files={"video": stream}, data=options).json()
    decisions = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert [item["is_promoted"] for item in decisions] == [True, False]
    assert [(item["candidate"], item["active"]) for item in decisions] == [("demo@1", "tiny@1"), ("tiny@2", "demo@1")]
    assert decisions[0]["candidate_top1"] == decisions[1]["active_top1"] > 0.7
    assert answer["results"][0]["label"] == "bowing"


@pytest.mark.parametrize("name", ["other", "fused"])
def test_every_family_is_evaluated(both: Path, index: Path, name: str) -> None:
    clips, labels = read_clips(index)
    hits = evaluate(both, read_version(both, name, 1), clips[:2], labels)
    assert hits.shape == (2,) and hits.dtype == bool


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\na,b\n", "columns"),
        ("file,label\na,\n", "needs a label"),
        ("file,label\na,b\na,b\n", "2 clips of 1"),
    ],
)
def test_a_list_that_cannot_decide_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "clips.csv"
    path.write_text(text)
    with pytest.raises(ExportError, match=words):
        read_clips(path)
