"""`actserve jobs` against a real server, and folders as inputs of `actserve classify`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running_server import ROOT, RunningServer

LABELS = "a person in red walking to the left,a person in blue clapping"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, demo_clip: Path) -> Path:
    """A folder with two videos, one of them below, and a text."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "below").mkdir()
    for place in ("b.mp4", "below/a.mp4"):
        (folder / place).write_bytes(demo_clip.read_bytes())
    (folder / "notes.txt").write_text("no video")
    return folder


def actserve(*words: str, server: RunningServer | None = None) -> subprocess.CompletedProcess[str]:
    address = [] if server is None else ["--server", server.address]
    command = [sys.executable, "-m", "serve.cli", *words, *address]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_job_is_created_watched_read_listed_and_deleted(demo_server: RunningServer, clips: Path) -> None:
    made = actserve(
        "jobs", "create", str(clips), "--labels", LABELS, "--options", '{"top_k": 1}', "--watch", server=demo_server
    )
    assert made.returncode == 0, made.stderr
    job_id, end = made.stdout.splitlines()
    assert end == "completed: 2 of 2 completed, 0 failed"
    results = [json.loads(line) for line in actserve("jobs", "results", job_id, server=demo_server).stdout.splitlines()]
    assert [(line["index"], line["input"]) for line in results] == [(0, "b.mp4"), (1, "a.mp4")]
    assert all(len(line["result"]["results"]) == 1 for line in results)
    listed = actserve("jobs", "list", "--status", "completed", server=demo_server).stdout
    assert any(line.split("\t")[:4] == [job_id, "classify", "completed", "2/2"] for line in listed.splitlines())
    assert json.loads(actserve("jobs", "show", job_id, server=demo_server).stdout)["id"] == job_id
    assert actserve("jobs", "watch", job_id, server=demo_server).returncode == 0
    assert "deleted" in actserve("jobs", "cancel", job_id, "--yes", server=demo_server).stdout
    gone = actserve("jobs", "show", job_id, server=demo_server)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "does not exist; it may have been deleted" in gone.stderr


def test_a_failed_input_ends_with_1_and_is_among_the_errors(demo_server: RunningServer, clips: Path) -> None:
    made = actserve("jobs", "create", str(clips / "notes.txt"), "--kind", "embed", "--watch", server=demo_server)
    assert made.returncode == 1
    job_id, end = made.stdout.splitlines()
    assert end == "completed: 0 of 1 completed, 1 failed"
    (line,) = actserve("jobs", "results", job_id, "--errors", server=demo_server).stdout.splitlines()
    assert json.loads(line)["problem"]["type"] == "/problems/unsupported-media"


def test_a_request_is_printed_and_not_sent(clips: Path) -> None:
    printed = actserve("jobs", "create", "--folder", "x", "--pattern", "*.mp4", "--print-curl").stdout
    assert '"folder": {"path": "x", "pattern": "*.mp4"}' in printed
    assert "http://127.0.0.1:8080/v1/jobs" in printed
    assert "-F video=@" in actserve("jobs", "create", str(clips), "--print-curl").stdout


def test_folders_are_classified(demo_server: RunningServer, clips: Path) -> None:
    found = actserve("classify", str(clips), "--labels", LABELS, "--json", server=demo_server)
    assert found.returncode == 0, found.stderr
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["input"] for line in lines] == [str(clips / "b.mp4"), str(clips / "below" / "a.mp4")]
    assert [line["index"] for line in lines] == [0, 1]
