"""The programs in `examples` do what they say, against a real server."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.running_server import ROOT, RunningServer, running_server
from tests.training.test_trainer import DEMO, SMALL
from tests.waiting import PATIENCE_SECONDS
from tests.web.conftest import CHROMIUM, FLAGS
from tests.web.editing import PATIENCE_MS

EXAMPLES = ROOT / "examples"
LABELS = "a person in red walking to the left, a person in red walking to the right"


def run(*command: object, **environment: str) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([str(word) for word in command], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_folder_is_classified_and_what_is_no_video_is_named(
    demo_server: RunningServer, demo_clip: Path, tmp_path: Path
) -> None:
    shutil.copy(demo_clip, tmp_path / "walking.mp4")
    (tmp_path / "notes.txt").write_text("not a video")
    program = (sys.executable, EXAMPLES / "classify_folder.py", tmp_path, "--labels", LABELS)
    rows = list(csv.DictReader(run(*program, "--server", demo_server.address).splitlines()))
    assert [Path(row["file"]).name for row in rows] == ["notes.txt", "walking.mp4"]
    assert (rows[0]["score"], "text" in rows[0]["label"]) == ("", True)
    assert rows[1]["label"] == "a person in red walking to the left" and float(rows[1]["score"]) > 0.5


def test_a_label_is_added_and_used_by_the_next_request(demo_server: RunningServer, demo_clip: Path) -> None:
    def add(label: str) -> str:
        program = (sys.executable, EXAMPLES / "live_vocabulary.py", "example-moves", label, demo_clip)
        return run(*program, "--server", demo_server.address)

    assert "version 1" in add("a person in red walking to the right")
    printed = add("a person in red walking to the left")
    assert "version 2" in printed
    assert printed.splitlines()[1].endswith("a person in red walking to the left  (example-moves@2)")
    assert "version 2" in add("a person in red walking to the left"), "it is there already"


@pytest.mark.timeout(1800)
def test_a_model_is_trained_exported_and_promoted(tmp_path: Path) -> None:
    repository, sets = tmp_path / "repository", [word for change in SMALL for word in ("--set", change)]
    run(sys.executable, "-m", "training", "demo-data", tmp_path / "held_out", "--count", 4, "--size", 96)
    clips = tmp_path / "held_out" / "index.csv"
    train = (sys.executable, "-m", "training", "train", DEMO, *sets, "--set", "run.steps=2")
    run(*train, "--set", f"run.out={tmp_path / 'first'}")
    export = (sys.executable, "-m", "export", "model", "--name", "small", "--repository", repository)
    run(*export, "--checkpoint", tmp_path / "first" / "checkpoint.pt")
    variables = {"SERVE_REPOSITORY": str(repository), "SERVE_MODEL": "small@1"}
    with running_server(tmp_path / "cache", **variables) as server:
        run(
            EXAMPLES / "train_export_promote.sh", "small", DEMO, clips, *sets, "--set", "run.steps=4",
            ACTSERVE_SERVER=server.address, REPOSITORY=str(repository), RUN=str(tmp_path / "second"), MARGIN="1",
        )  # fmt: skip
        assert httpx.get(f"{server.address}/v1/models", timeout=PATIENCE_SECONDS).json()["default"] == "small@2"
    (decision,) = map(json.loads, (tmp_path / "second" / "promotions.jsonl").read_text().splitlines())
    assert decision["is_promoted"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_page_calls_the_server_from_javascript(demo_server: RunningServer, demo_clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "page" / "serve.py", "--server", demo_server.address, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page()
            page.goto(address)
            page.locator("#labels").fill(LABELS)
            page.locator("#video").set_input_files(str(demo_clip))
            results = page.locator("#results li")
            expect(results).to_have_count(2, timeout=PATIENCE_MS)
            expect(results.first).to_contain_text("walking to the left")
            (tmp_path / "notes.mp4").write_text("not a video")
            page.locator("#video").set_input_files(str(tmp_path / "notes.mp4"))
            expect(page.locator("#problem")).to_contain_text("text file", timeout=PATIENCE_MS)
            browser.close()
        process.terminate()
