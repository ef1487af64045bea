"""An extra that is missing is said in one line before any work; each in a fresh interpreter that cannot import it."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from serve.exit_status import INPUT_ERROR
from serve.extras import EXTRAS, MissingExtra, require_extra
from tests.running_server import ROOT
from tests.waiting import PATIENCE_SECONDS

NOWHERE = "http://127.0.0.1:9"
BLOCK = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
sys.argv = [{program!r}, *{words!r}]
runpy.run_module({program!r}, run_name="__main__", alter_sys=True)
"""
TRAINING = ("train", "prepare", "check", "shard", "few-shot", "evaluate", "reference-check", "demo-data")
EXPORT = ("model", "import-checkpoint", "verify", "promote", "tensorrt")


def run_without(module: str, program: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = BLOCK.format(module=module, program=program, words=words)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_SECONDS, env={**os.environ, **environment},
    )  # fmt: skip


def assert_named(left: subprocess.CompletedProcess[str], extra: str, module: str) -> None:
    assert left.returncode == INPUT_ERROR, left.stderr
    assert left.stdout == ""
    (line,) = left.stderr.splitlines()
    assert f"pip install 'actserve[{extra}]'" in line and module in line


def test_the_table_lists_what_the_project_file_lists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    provided: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions:
            provided.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(module)
    listed = dict(project["optional-dependencies"])
    (own,) = (line for line in listed["dev"] if line.startswith("actserve["))
    tested = re.split(r"[\[\],]", own)  # the extras that this environment has
    for tools in ("dev", "docs"):  # no command of the distribution needs them
        del listed[tools]
    assert listed.keys() == EXTRAS.keys()
    for extra, requirements in listed.items():
        for requirement in requirements:
            name = re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;! ]", requirement)[0]).lower()
            modules = provided[name] if extra in tested else {name}
            assert modules & set(EXTRAS[extra]), f"{extra}: no module of {requirement}"


@pytest.mark.parametrize("module", EXTRAS["training"])
def test_training_without_one_of_its_modules(module: str) -> None:
    assert_named(run_without(module, "training", "train", "training/configs/demo.yaml"), "training", module)


@pytest.mark.parametrize("command", TRAINING)
def test_every_command_of_training(command: str) -> None:
    assert_named(run_without("torch", "training", command), "training", "torch")


@pytest.mark.parametrize("module", EXTRAS["export"])
def test_export_without_one_of_its_modules(module: str) -> None:
    assert_named(run_without(module, "export", "verify", "demo"), "export", module)


@pytest.mark.parametrize("command", EXPORT)
def test_every_command_of_export(command: str) -> None:
    assert_named(run_without("onnx", "export", command), "export", "onnx")


def test_pictures_of_a_calibration_are_refused_before_a_version_is_made(tmp_path: Path) -> None:
    index = tmp_path / "clips.csv"
    index.write_text("file,label\n")
    words = ("calibrate", "demo", str(index), "--plot", str(tmp_path / "plots"), "--server", NOWHERE)
    assert_named(run_without("matplotlib", "serve.cli", "vocab", *words), "plots", "matplotlib")
    assert not (tmp_path / "plots").exists()


def test_pictures_of_an_evaluation_are_refused_before_it_begins(tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    left = run_without("matplotlib", "training", "evaluate", "no.pt", "no.csv", "--plots", str(plots))
    assert_named(left, "plots", "matplotlib")
    assert not plots.exists()


@pytest.mark.parametrize("module", EXTRAS["batch"])
def test_a_batch_is_refused_before_it_begins(module: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    left = run_without(module, "serve.cli", "batch", "README.md", "--out", str(out))
    assert_named(left, "batch", module)
    assert not out.exists()


@pytest.mark.parametrize("program", ["serve", "classify"])
@pytest.mark.parametrize(
    ("extra", "module", "setting"),
    [
        ("triton", "tritonclient", {"SERVE_ENGINE": "triton"}),
        ("triton", "grpc", {"SERVE_ENGINE": "triton"}),
        ("postgres", "psycopg", {"SERVE_STORE_URL": "postgresql://somebody:secret@nowhere.invalid/actserve"}),
    ],
    ids=["tritonclient", "grpc", "psycopg"],
)
def test_a_server_that_needs_an_extra(program: str, extra: str, module: str, setting: dict[str, str]) -> None:
    words = ["serve", "--port", "0"] if program == "serve" else ["classify", "README.md", "--labels", "a,b"]
    left = run_without(module, "serve.cli", *words, **setting)
    assert_named(left, extra, module)
    assert "secret" not in left.stderr


@pytest.mark.parametrize("program", ["serve.cli", "training", "export"])
def test_nothing_is_missing_here(program: str) -> None:
    left = run_without("a_module_nobody_has", program, "--help")
    assert (left.returncode, left.stderr) == (0, "")


def test_a_module_set_to_none_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    require_extra("plots")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"this command needs the extra 'plots' \(matplotlib not installed\)"):
        require_extra("plots")
