"""`actserve videos` and `actserve search` against a server."""

import json
import subprocess
import sys
from pathlib import Path

import httpx

from tests.running_server import ROOT, RunningServer
from tests.serve.retrieval.conftest import answered, sent

LABELS = "a person in blue doing jumping jacks,a person in purple clapping"


def run(server: RunningServer, *words: str) -> str:
    command = [str(Path(sys.executable).with_name("actserve")), *words, "--server", server.address]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_stored_video_is_listed_scored_found_and_deleted(
    client: httpx.Client, server: RunningServer, actions: Path
) -> None:
    stored = answered(sent(client, "timeline", actions, filename="two.mp4", store=True, tags=["a"]))["video_id"]
    columns = run(server, "videos", "list", "--tag", "a").rstrip("\n").split("\t")
    assert columns[:3] == [
        stored,
        "demo@1",
        f"{json.loads(run(server, 'videos', 'show', stored))['num_windows']} windows",
    ]
    assert columns[-2:] == ["a", "two.mp4"]
    assert run(server, "videos", "list", "--tag", "b") == ""
    scored = run(server, "videos", "classify", stored, "--labels", LABELS, "--top-k", "1")
    assert scored.count("\n") == 1 and "a person in" in scored
    segments = run(server, "videos", "timeline", stored, "--labels", LABELS).splitlines()
    assert ["jumping jacks" in line for line in segments] == [True, False]
    first = run(server, "search", "a person in purple clapping", "--top-k", "1").split()
    assert first[1] == stored and float(first[2]) >= 3.0
    like = run(server, "search", "--like", stored, "--start", "1", "--end", "2", "--top-k", "2", "--json")
    assert len(json.loads(like)["results"]) == 2
    assert stored in run(server, "search", "--clip", str(actions), "--tag", "a")
    assert "deleted" in run(server, "videos", "delete", stored, "--yes")
    assert run(server, "videos", "list") == ""


def test_requests_are_printed_as_curl(server: RunningServer) -> None:
    printed = run(server, "videos", "classify", "a/b", "--labels", "walking", "--print-curl")
    assert f"{server.address}/v1/videos/a%2Fb:classify" in printed
    assert '"candidate_labels": "walking"' in printed
    assert "/v1/search?q=a+b&top_k=10" in run(server, "search", "a b", "--print-curl")
