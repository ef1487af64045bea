"""A platform without the Unix modules of Python is named in one line."""

import subprocess
import sys

from serve.exit_status import INPUT_ERROR
from tests.running_server import ROOT
from tests.waiting import PATIENCE_SECONDS

WITHOUT_FCNTL = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "fcntl":
            raise ModuleNotFoundError("No module named 'fcntl'", name=name)
sys.meta_path.insert(0, Blocked())
sys.modules.pop("fcntl", None)
from serve.cli.main import main
main(sys.argv[1:])
"""


def test_a_command_that_needs_unix_names_wsl() -> None:
    command = [sys.executable, "-c", WITHOUT_FCNTL, "serve"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_SECONDS)
    assert done.returncode == INPUT_ERROR, done.stderr
    (line,) = done.stderr.splitlines()
    assert "the module fcntl" in line and "WSL" in line
