"""The way from rendered videos to a model that answers, by the commands of the documentation, with a small model."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.running_server import ROOT, running_server
from tests.training.test_trainer import DEMO, SMALL
from tests.waiting import PATIENCE_SECONDS
from training.checkpoints.native_format import load_checkpoint


def command(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.timeout(600)
def test_from_rendered_videos_to_a_promoted_model(tmp_path: Path) -> None:
    checkpoint, repository = tmp_path / "run" / "checkpoint.pt", tmp_path / "repository"
    for version, steps in enumerate((2, 4), start=1):
        changes = [*SMALL, f"run.out={checkpoint.parent}{version}", f"run.steps={steps}", "run.evaluate_every=2"]
        command("training", "train", str(DEMO), *(word for change in changes for word in ("--set", change)))
        trained = Path(f"{checkpoint.parent}{version}") / "checkpoint.pt"
        assert load_checkpoint(trained).provenance["steps"] == steps
        command("export", "model", "--checkpoint", str(trained), "--name", "small", "--repository", str(repository))
    command("training", "demo-data", str(tmp_path / "held_out"), "--count", "6", "--split", "heldout", "--size", "96")
    environment = {"SERVE_REPOSITORY": str(repository), "SERVE_MODEL": "small@1"}
    record = tmp_path / "promotions.jsonl"
    with (
        running_server(tmp_path / "cache", **environment) as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http,
        next((tmp_path / "held_out").glob("*.mp4")).open("rb") as clip,
    ):
        assert http.get("/v1/models").json()["default"] == "small@1"
        printed = command(
            "export", "promote", "small", "--clips", str(tmp_path / "held_out" / "index.csv"), "--margin", "1",
            "--server", server.address, "--repository", str(repository), "--record", str(record),
        ).stdout  # fmt: skip
        assert "small@2" in printed
        answer = http.post("/v1/classify", files={"video": clip}, data={"top_k": 3}).json()
    assert answer["model"]["name"] == "small" and answer["model"]["version"] == "2"
    assert len(answer["results"]) == 3
    (decision,) = map(json.loads, record.read_text().splitlines())
    assert decision["is_promoted"] and (decision["candidate"], decision["active"]) == ("small@2", "small@1")
    assert decision["num_clips"] == 6
