"""The data folder is named at start, with the installations that have used it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.data_folder import RECORDS_FILE, database_path, register_start
from serve.server import register_data_folder
from serve.settings import ServeSettings
from tests.running_server import ROOT, running_server
from tests.waiting import PATIENCE_SECONDS


def start(folder: Path, installation: str, version: str = "1.0") -> str:
    return register_start(folder, installation=Path(installation), version=version)


def test_a_folder_says_who_used_it_before(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "data"
    assert start(folder, "/checkouts/a") == "new"
    assert start(folder, "/checkouts/a") == ""
    assert start(folder, "/checkouts/a", "1.1") == "last used by actserve 1.0"
    assert start(folder, "/checkouts/b").startswith("shared with /checkouts/a (actserve 1.1, started 20")
    assert start(folder, "/checkouts/a", "1.1").startswith("shared with /checkouts/b (actserve 1.0, started 20")
    assert start(folder, "/checkouts/c").endswith(" and 1 more")


def test_a_database_without_a_note_is_said(tmp_path: Path) -> None:
    database_path(tmp_path).touch()
    assert start(tmp_path, "/checkouts/a") == "used before by an unknown installation"
    assert start(tmp_path, "/checkouts/a") == ""


@pytest.mark.parametrize("note", ["", "[]", '{"a": 1}', '{"a": {"version": "1"}}', "\udcff", '{"a": {"x": 1}}'])
def test_a_damaged_note_is_written_anew(tmp_path: Path, note: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / RECORDS_FILE).write_bytes(note.encode("utf-8", "surrogateescape"))
    assert start(tmp_path, "/checkouts/a") == "new"
    assert "will be replaced" in caplog.text
    assert list(json.loads((tmp_path / RECORDS_FILE).read_text())) == ["/checkouts/a"]


def test_a_database_of_several_gateways_is_named_without_its_password(tmp_path: Path) -> None:
    settings = ServeSettings(store_url="postgresql://ada:secret@db/actserve", data_dir=tmp_path / "unused")
    assert register_data_folder(settings) == "postgresql://ada:***@db/actserve"
    assert not (tmp_path / "unused").exists()


def test_a_second_checkout_on_the_same_folder_is_reported(tmp_path: Path) -> None:
    data = tmp_path / "cache" / "data"
    start(data, "/checkouts/other", "0.9")
    with running_server(tmp_path / "cache") as server:
        (line,) = [line for line in server.log if line.startswith("  data ")]
    assert str(data) in line and "shared with /checkouts/other (actserve 0.9" in line
    with running_server(tmp_path / "fresh") as server:
        (line,) = [line for line in server.log if line.startswith("  data ")]
    assert line.rstrip().endswith(f"{tmp_path / 'fresh' / 'data'} (new)")


@pytest.mark.skipif(os.name != "posix", reason="a folder below a file is refused in other words elsewhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    variables = {**os.environ, "SERVE_DATA_DIR": str(tmp_path / "file" / "data"), "SERVE_PORT": "0"}
    command = [str(Path(sys.executable).with_name("actserve")), "serve"]
    left = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=variables, timeout=PATIENCE_SECONDS, check=False
    )
    assert left.returncode == 2
    (line,) = left.stderr.splitlines()
    assert "data folder" in line and "SERVE_DATA_DIR" in line


def test_make_run_keeps_the_data_of_a_checkout_in_it() -> None:
    shown = subprocess.run(
        ["make", "-n", "run"], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_SECONDS, check=True
    )
    assert 'SERVE_DATA_DIR="${SERVE_DATA_DIR:-.data}" .venv/bin/actserve serve' in shown.stdout
    assert "/.data/" in (ROOT / ".gitignore").read_text().splitlines()
