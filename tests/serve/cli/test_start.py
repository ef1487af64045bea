"""What a server prints when it is ready works as it stands."""

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.running_server import ROOT, RunningServer
from tests.waiting import PATIENCE_SECONDS


def send(command: str) -> httpx.Response:
    """The request of a curl command with `-F` fields, sent from the checkout."""
    reader = argparse.ArgumentParser()
    reader.add_argument("program", choices=["curl"])
    reader.add_argument("-s", action="store_true")
    reader.add_argument("-F", action="append", default=[], dest="fields")
    reader.add_argument("url")
    given = reader.parse_intermixed_args(shlex.split(command.replace("\\\n", " "), comments=True))
    fields = dict(word.split("=", 1) for word in given.fields)
    files = {name: (ROOT / value[1:]).read_bytes() for name, value in fields.items() if value.startswith("@")}
    data = {name: value for name, value in fields.items() if name not in files}
    return httpx.post(given.url, files=files, data=data, timeout=PATIENCE_SECONDS)


def test_the_printed_request_works(demo_server: RunningServer, demo_clip: Path) -> None:
    (line,) = [line for line in demo_server.log if "curl" in line]
    command = line.strip().removeprefix("request").strip().replace("@clip.mp4", f"@{demo_clip}")
    answer = send(command)
    assert answer.status_code == 200, answer.text
    assert "walking" in answer.json()["results"][0]["label"]
    if shutil.which("curl") is not None:
        shown = subprocess.run(
            command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_SECONDS, check=True
        )
        assert '"results"' in shown.stdout


def test_the_example_is_small_and_is_served(demo_server: RunningServer) -> None:
    example = Path(ROOT / "serve" / "web" / "example.mp4")
    assert example.stat().st_size < 2**14
    served = httpx.get(f"{demo_server.address}/web/example.mp4", timeout=PATIENCE_SECONDS)
    assert served.content == example.read_bytes()


@pytest.mark.parametrize("name", ["page", "API"])
def test_the_printed_addresses_answer(demo_server: RunningServer, name: str) -> None:
    (line,) = [line for line in demo_server.log if re.match(rf"  {name} ", line)]
    assert httpx.get(line.split()[1], timeout=PATIENCE_SECONDS).status_code == 200
