"""What a server prints when it is ready works as it stands; so does the README's first example."""

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.running_server import ROOT, RunningServer


def send(command: str) -> httpx.Response:
    """The request of a curl command with `-F` fields, sent from the checkout."""
    reader = argparse.ArgumentParser()
    reader.add_argument("program", choices=["curl"])
    reader.add_argument("-s", action="store_true")
    reader.add_argument("-F", action="append", default=[], dest="fields")
    reader.add_argument("url")
    given = reader.parse_intermixed_args(shlex.split(command.replace("\\\n", " ")))
    fields = dict(word.split("=", 1) for word in given.fields)
    files = {name: (ROOT / value[1:]).read_bytes() for name, value in fields.items() if value.startswith("@")}
    data = {name: value for name, value in fields.items() if name not in files}
    return httpx.post(given.url, files=files, data=data, timeout=60)


def test_the_printed_request_works(demo_server: RunningServer) -> None:
    (line,) = [line for line in demo_server.log if "curl" in line]
    command = line.strip().removeprefix("request").strip()
    answer = send(command)
    assert answer.status_code == 200, answer.text
    assert "walking" in answer.json()["results"][0]["label"]
    if shutil.which("curl") is not None:
        shown = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
        assert '"results"' in shown.stdout


def test_the_first_example_of_the_readme_works(demo_server: RunningServer) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"```sh\n(curl.*?)```", readme, re.DOTALL)
    assert first is not None
    answer = send(first[1].replace("http://127.0.0.1:8080", demo_server.address))
    assert answer.status_code == 200, answer.text
    labels = [result["label"] for result in answer.json()["results"]]
    assert labels[0] == re.search(r'"results": \[\s*\{"label": "([^"]+)"', readme)[1]  # type: ignore[index]


def test_the_example_is_small_and_is_served(demo_server: RunningServer) -> None:
    example = Path(ROOT / "serve" / "web" / "example.mp4")
    assert example.stat().st_size < 2**14
    served = httpx.get(f"{demo_server.address}/web/example.mp4")
    assert served.content == example.read_bytes()


@pytest.mark.parametrize("name", ["page", "API"])
def test_the_printed_addresses_answer(demo_server: RunningServer, name: str) -> None:
    (line,) = [line for line in demo_server.log if re.match(rf"  {name} ", line)]
    assert httpx.get(line.split()[1]).status_code == 200
