"""Commands given wrongly: exit status 2, a message that names what was found, no traceback, nothing sent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running_server import ROOT
from tests.waiting import PATIENCE_SECONDS

NOWHERE = "http://127.0.0.1:9"


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("actserve")), *words],
        capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL,
        env={**os.environ, "ACTSERVE_SERVER": NOWHERE, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name,thing\na.mp4,x\n", "needs a column for the path"),
        (b"", "its columns are: none"),
        (b"file,label\n", "lists no clips"),
        (b"file,label\nmissing.mp4,x\n", "1 files do not exist"),
        (b"file,label\nmissing.mp4\n", "line 2: 1 of 2 fields, label is missing"),
        (b"file,label\n,walking\n", "line 2: file and label must not be empty"),
        (b"file,label\n\xff.mp4,x\n", "line 2: the byte 0xFF is not UTF-8"),
        (b"file,label\n" + b"x" * 200_000 + b",y\n", "line 2: field larger than"),
    ],
    ids=["columns", "empty", "no row", "absent", "no label", "no name", "Latin-1", "long field"],
)
def test_an_index_that_cannot_be_used(tmp_path: Path, content: bytes, expected: str) -> None:
    index = tmp_path / "index.csv"
    index.write_bytes(content)
    left = run("vocab", "calibrate", "demo", str(index))
    shown = " ".join(left.stderr.replace("│", " ").split())
    assert (left.returncode, left.stdout) == (2, "")
    assert expected in shown and "Traceback" not in shown


@pytest.mark.parametrize(
    "words",
    [
        ("vocab", "show", "demo", "--format", "pdf"),
        ("vocab", "put", "demo", "README.md"),
        ("vocab", "put", "demo", "absent.txt"),
        ("vocab", "add", "demo", "a", "b", "--synonym", "c"),
        ("vocab", "diff", "demo", "one", "2"),
        ("classify", "README.md", "--labels", "a,b", "--function", "quick"),
        ("classify", "README.md", "--labels", "a,b", "--clips", "400", "--repository", "model_repository"),
        ("classify", "absent.mp4"),
        ("serve", "--port", "99999"),
        ("serve", "--engine", "quick"),
        ("serve", "--host", "256.1.1.1", "--port", "0"),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_a_command_line_that_is_wrong(words: tuple[str, ...], tmp_path: Path) -> None:
    left = run(*words, SERVE_DATA_DIR=str(tmp_path))
    assert (left.returncode, left.stdout) == (2, ""), left.stderr
    assert left.stderr and "Traceback" not in left.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--repository", "nowhere"), "the model repository 'nowhere' does not exist"),
        (("--model", "nothing"), "has no model 'nothing'"),
    ],
    ids=["folder", "model"],
)
def test_a_start_that_fails_says_why_once(words: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    left = run("serve", "--port", "0", *words, SERVE_DATA_DIR=str(tmp_path), SERVE_LOG_LEVEL="error")
    assert left.returncode == 2
    (line,) = left.stderr.splitlines()
    assert expected in line


def test_a_file_of_labels_is_shown_as_a_file(tmp_path: Path) -> None:
    from serve.cli.calls import ApiRequest

    labels = tmp_path / "labels of ours.csv"
    labels.write_bytes(b"name\n\xff\n")
    shown = ApiRequest(method="PUT", url=NOWHERE, body=labels).to_curl()
    assert shown == f"curl -X PUT {NOWHERE} --data-binary '@{labels}'"
