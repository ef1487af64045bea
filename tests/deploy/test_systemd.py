"""The systemd units: systemd accepts them, their exposure, and the variables that they set."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from serve.environment import known_variables
from tests.running_server import ROOT

UNITS = ROOT / "deploy" / "systemd"
MAX_EXPOSURE = {"actserve.service": 2.5, "actserve-backup.service": 2.0}  # of 10; below 3 is "OK" for systemd
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that exists on this machine."""
    for path in UNITS.glob("*.*"):
        text = path.read_text(encoding="utf-8").replace("/opt/actserve/bin/actserve", "/bin/true")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    return tmp_path


@needs_systemd
def test_systemd_accepts_the_units(units: Path) -> None:
    names = sorted(path.name for path in units.glob("actserve*") if path.suffix in (".service", ".timer"))
    result = subprocess.run(["systemd-analyze", "verify", *names], cwd=units, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "actserve" not in result.stderr


@needs_systemd
@pytest.mark.parametrize("name", MAX_EXPOSURE)
def test_services_are_hardened(units: Path, name: str) -> None:
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", name], cwd=units, capture_output=True, text=True
    )
    match = re.search(rf"Overall exposure level for {re.escape(name)}: ([0-9.]+)", result.stdout)
    assert match is not None, result.stdout + result.stderr
    assert float(match[1]) <= MAX_EXPOSURE[name]


def test_units_set_variables_of_the_server() -> None:
    found = {
        name for path in UNITS.glob("*.service") for name in re.findall(r"\b(SERVE_[A-Z_]+)=", path.read_text("utf-8"))
    }
    assert found
    assert found <= known_variables()
