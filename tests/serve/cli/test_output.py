"""What commands print: groups of the help, `--json`, `--quiet`, files of results, lists of inputs."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from serve.cli.main import ADMINISTRATION, MODELS, VIDEOS, app, main
from serve.client import Client
from tests.running_server import RunningServer
from tests.waiting import PATIENCE_SECONDS

LABELS = "a person in red walking to the left,a person in blue clapping"
WITHOUT_RESULTS = {("serve",), ("train",), ("export",)}  # a server, and other programs


def commands(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    command = typer.main.get_command(app) if command is None else command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))
    if not hasattr(command, "commands"):
        yield words, command


@pytest.fixture
def run(demo_server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command against the server in this process; returns its standard output."""
    monkeypatch.setenv("ACTSERVE_SERVER", demo_server.address)

    def run(*words: object) -> str:
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            assert end.code in (0, None), capsys.readouterr().err
        return capsys.readouterr().out

    return run


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_command_has_the_options_of_the_output() -> None:
    for words, command in commands():
        names = {name for parameter in command.params for name in parameter.opts}
        assert ({"--json", "--quiet"} <= names) == (words not in WITHOUT_RESULTS), words


def test_the_help_shows_groups(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    places = [shown.index(f" {group} ") for group in (VIDEOS, ADMINISTRATION, MODELS)]
    assert len(set(places)) == 3
    assert "--show-completion" in shown


def test_completion_knows_the_commands(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    variables = {"_ACTSERVE_COMPLETE": "complete_bash", "COMP_WORDS": "actserve vocab re", "COMP_CWORD": "2"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main([])
    assert {"remove", "rename", "remove-examples"} == set(capfd.readouterr().out.split())


def test_vocabularies_as_json(run: Any, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("walking\nrunning\n")
    wait = ("--wait", PATIENCE_SECONDS)
    (created,) = documents(run("vocab", "put", "printed", labels, "--json", *wait))
    assert (created["name"], created["version"], created["is_current"]) == ("printed", 1, True)
    assert run("vocab", "add", "printed", "padel", "--quiet", *wait) == ""
    assert documents(run("vocab", "rename", "printed", "padel", "tennis", "--json", "-q", *wait))[0]["version"] == 3
    assert "printed" in {item["name"] for item in documents(run("vocab", "list", "--json"))}
    (shown,) = documents(run("vocab", "show", "printed", "--json"))
    assert [label["name"] for label in shown["labels"]] == ["walking", "running", "tennis"]
    assert [item["version"] for item in documents(run("vocab", "history", "printed", "--json"))] == [3, 2, 1]
    assert documents(run("vocab", "diff", "printed", 1, 3, "--json"))[0]["added"] == ["tennis"]
    assert documents(run("vocab", "examples", "printed", "--json")) == []
    assert documents(run("vocab", "delete", "printed", "--yes", "--json")) == [{"name": "printed", "deleted": True}]


def test_other_lists_as_json(run: Any, demo_clip: Path) -> None:
    (job,) = documents(run("jobs", "create", demo_clip, "--kind", "embed", "--watch", "--json"))
    assert job["status"] == "completed"
    assert documents(run("jobs", "show", job["id"], "--json"))[0]["id"] == job["id"]
    assert job["id"] in {item["id"] for item in documents(run("jobs", "list", "--json"))}
    assert len(documents(run("jobs", "results", job["id"], "--json"))) == 1
    assert documents(run("jobs", "cancel", job["id"], "--yes", "--json")) == [{"id": job["id"], "deleted": True}]
    assert documents(run("models", "list", "--json"))[0]["default"] == "demo@1"
    for line in documents(run("videos", "list", "--json")):
        assert "video_id" in line
    assert "results" in documents(run("search", "walking", "--json"))[0]


def test_curl_and_json_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["vocab", "delete", "x", "--print-curl", "--json"])
    assert end.value.code == 2
    assert "--print-curl cannot be combined with --json" in capsys.readouterr().err


def test_inputs_are_files_folders_patterns_and_lists(
    run: Any, demo_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.mp4", "below/a.mp4", "list ed.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(demo_clip.read_bytes())
    listed = os.fsencode(tmp_path / "list ed.mp4") + b"\0" + os.fsencode(tmp_path / "below")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    words = ("classify", "-", tmp_path / "*.mp4", "--labels", LABELS, "--top-k", 1, "--json")
    names = [Path(line["input"]).name for line in documents(run(*words))]
    assert names == ["list ed.mp4", "a.mp4", "b.mp4", "list ed.mp4"]


@pytest.mark.parametrize("argument", ["none.mp4", "*.none", "empty"])
def test_an_input_that_does_not_exist_is_named(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for words in (["classify"], ["timeline"], ["jobs", "create"]):
        with pytest.raises(SystemExit) as end:
            main([*words, argument, "--labels", LABELS])
        assert end.value.code == 2
        assert argument in capsys.readouterr().err


def test_results_are_written_to_files(run: Any, demo_clip: Path, tmp_path: Path) -> None:
    table, lines = tmp_path / "results.csv", tmp_path / "results.jsonl"
    for path in (table, lines):
        assert run("classify", demo_clip, "--labels", LABELS, "--out", path) == ""
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    (document,) = documents(lines.read_text())
    assert [row["label"] for row in rows] == [item["label"] for item in document["result"]["results"]]
    assert [float(row["logit"]) for row in rows] == [item["logit"] for item in document["result"]["results"]]
    assert [row["rank"] for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("out", "words"), [("a.xlsx", ".jsonl, .csv"), ("here.csv", "already exists"), ("no/a.csv", "does not exist")]
)
def test_a_file_of_results_that_cannot_be_written_is_an_error_before_the_work(
    out: str, words: str, demo_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here.csv").touch()
    with pytest.raises(SystemExit) as end:
        main(["classify", str(demo_clip), "--labels", LABELS, "--out", str(tmp_path / out)])
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_other_programs_are_reachable_and_name_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    main(["export", "--help"])
    assert "python -m export" in capfd.readouterr().out
    monkeypatch.setitem(__import__("sys").modules, "webdataset", None)
    with pytest.raises(SystemExit) as end:
        main(["train", "train", "--help"])
    assert end.value.code == 2
    assert re.search(r"actserve train needs the extra 'training' \(webdataset not installed\)", capfd.readouterr().err)


def test_a_client_reads_what_a_command_wrote(run: Any, demo_server: RunningServer, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("name\nwalking\n")
    run("vocab", "put", "both", labels)
    with Client(demo_server.address) as client:
        assert client.vocabulary("both").labels() == ["walking"]
        client.vocabulary("both").delete()
