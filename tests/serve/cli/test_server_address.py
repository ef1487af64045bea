"""Which server a command asks: the option, the variable, the default; and what it says when that is wrong."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve import variables
from serve.client.address import DEFAULT_SERVER
from serve.server import local_url
from serve.settings import ServeSettings
from tests.running_server import ROOT, RunningServer
from tests.waiting import PATIENCE_SECONDS

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if name != variables.SERVER}
    return subprocess.run(
        [str(Path(sys.executable).with_name("actserve")), *words],
        capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_SECONDS,
        env={**others, **environment}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_default_is_where_a_server_listens_by_default() -> None:
    fields = ServeSettings.model_fields
    assert local_url(fields["host"].default, fields["port"].default) == DEFAULT_SERVER


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:8123"),
        ("0.0.0.0", "http://127.0.0.1:8123"),
        ("::", "http://[::1]:8123"),
        ("fe80::1", "http://[fe80::1]:8123"),
        ("gpu1", "http://gpu1:8123"),
    ],
)
def test_an_address_can_be_pasted_into_a_client(host: str, expected: str) -> None:
    assert local_url(host, 8123) == expected


def test_a_variable_names_the_server_and_the_option_goes_over_it(demo_server: RunningServer) -> None:
    asked = (["vocab", "list"], ["models", "list"])
    for words in asked:
        named = run(*words, ACTSERVE_SERVER=f"{demo_server.address}/")
        assert (named.returncode, "demo@" in named.stdout) == (0, True), named.stderr
        assert run(*words, "--server", demo_server.address, ACTSERVE_SERVER=NOWHERE).stdout == named.stdout
        assert run(*words, "--server", NOWHERE, ACTSERVE_SERVER=demo_server.address).returncode == 1


def test_the_variable_is_printed_at_start_and_works_as_printed(demo_server: RunningServer) -> None:
    (line,) = [line for line in demo_server.log if variables.SERVER in line]
    command = line.strip().removeprefix("in other terminals:").strip()
    shown = subprocess.run(
        f"{command} && {Path(sys.executable).with_name('actserve')} vocab list",
        shell=True, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert "demo@" in shown.stdout, shown.stderr


@pytest.mark.parametrize("given", [{}, {"ACTSERVE_SERVER": NOWHERE}], ids=["default", "variable"])
def test_a_server_that_does_not_answer_is_named_with_the_way_to_name_another(given: dict[str, str]) -> None:
    if not given:
        given = {"ACTSERVE_SERVER": ""}  # as good as unset
    left = run("vocab", "list", "--server", NOWHERE) if given["ACTSERVE_SERVER"] else run("vocab", "list", **given)
    address = NOWHERE if given["ACTSERVE_SERVER"] else DEFAULT_SERVER
    if left.returncode == 0:
        pytest.skip(f"a server listens on {DEFAULT_SERVER} here")
    assert left.returncode == 1
    assert address in left.stderr and "--server URL" in left.stderr and "export ACTSERVE_SERVER=URL" in left.stderr
    assert "Traceback" not in left.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:8123", "localhost", "ftp://host", "http://"])
def test_what_is_no_address_is_wrong_usage(address: str) -> None:
    for left in (run("vocab", "list", "--server", address), run("models", "list", ACTSERVE_SERVER=address)):
        assert left.returncode == 2
        assert DEFAULT_SERVER in left.stderr.replace("\n", " ")


class OtherProgram(http.server.BaseHTTPRequestHandler):
    """Answers every request with the body of its class."""

    body = b""
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture(
    params=[
        (200, b"<html>It works</html>"),
        (200, json.dumps({"object": "list", "data": []}).encode()),
        (200, b"[1]"),
        (404, b"<html>not found</html>"),
        (502, json.dumps({"error": "bad gateway"}).encode()),
        (500, b'"text"'),
    ],
    ids=["page", "other JSON", "array", "404 page", "502 JSON", "500 text"],
)
def other_program(request: pytest.FixtureRequest) -> Iterator[str]:
    status, body = request.param
    handler = type("Handler", (OtherProgram,), {"status": status, "body": body})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_another_program_at_the_address_is_said(other_program: str) -> None:
    for words in (
        ["vocab", "list"],
        ["models", "list"],
        ["feedback", "list"],
        ["videos", "list"],
        ["vocab", "history", "demo"],
    ):
        left = run(*words, "--server", other_program)
        assert left.returncode == 1
        assert other_program in left.stderr and "export ACTSERVE_SERVER=URL" in left.stderr
        assert "Traceback" not in left.stderr and len(left.stderr.splitlines()) == 1


def test_a_folder_of_models_is_for_work_in_process(demo_clip: Path) -> None:
    words = ["classify", str(demo_clip), "--labels", "walking,jumping", "--repository", "nowhere"]
    left = run(*words, "--server", NOWHERE)
    assert left.returncode == 2 and "--repository" in left.stderr
    in_process = run(*words, ACTSERVE_SERVER=NOWHERE)
    assert in_process.returncode == 2 and "nowhere" in in_process.stderr, "the option goes over the variable"


@pytest.mark.parametrize("words", [["vocab", "delete", "demo"], ["feedback", "remove", "x"], ["videos", "delete", "x"]])
def test_what_cannot_be_undone_is_asked_for(demo_server: RunningServer, words: list[str]) -> None:
    left = run(*words, "--server", demo_server.address)
    assert left.returncode == 2 and "--yes" in left.stderr
    assert "demo@" in run("vocab", "list", "--server", demo_server.address).stdout


@pytest.mark.parametrize(
    "command",
    [[str(Path(sys.executable).with_name("actserve"))], *([sys.executable, "-m", m] for m in ("training", "export"))],
    ids=["actserve", "training", "export"],
)
def test_every_command_line_says_its_version(command: list[str]) -> None:
    shown = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_SECONDS, check=True
    )
    assert shown.stdout.startswith("actserve ") and len(shown.stdout.splitlines()) == 1


def test_labels_are_a_list_with_quotes_and_merged_ones_are_noted(demo_server: RunningServer, demo_clip: Path) -> None:
    found = run(
        "classify", str(demo_clip), "--labels", 'Bowing， bowing；"waving, slowly"', "--server", demo_server.address
    )
    assert found.returncode == 0, found.stderr
    assert {line.split(maxsplit=1)[1] for line in found.stdout.splitlines()[1:]} == {
        "Bowing",
        "bowing",
        "waving, slowly",
    }
    assert found.stderr.count("note: demo@1 reads 'Bowing', 'bowing' as the same prompt") == 1
    left = run("classify", str(demo_clip), "--labels", 'bowing, "waving', "--server", demo_server.address)
    assert left.returncode == 2 and 'line 1, character 9: the quote " is not closed' in left.stderr
