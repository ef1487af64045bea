"""The client works where only the wheel, httpx and what httpx requires are installed."""

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from tests.running_server import ROOT, RunningServer
from tests.waiting import PATIENCE_SECONDS

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from serve.client import Client
with Client(sys.argv[2], timeout_seconds=300) as client:
    print(client.classify(sys.argv[3], top_k=1)["results"][0]["label"])
"""


def required_by(name: str) -> set[str]:
    """Return a distribution and all that it requires without extras."""
    names, pending = set[str](), [name]
    while pending:
        current = pending.pop()
        names.add(current)
        for requirement in distribution(current).requires or ():
            match = re.match(r"[\w.-]+", requirement)
            if match is not None and ";" not in requirement and match[0] not in names:
                pending.append(match[0])
    return names


def test_the_client_needs_only_httpx(demo_server: RunningServer, demo_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "serve").symlink_to(ROOT / "serve")
    names = required_by("httpx") | {"typing_extensions"}  # of anyio before Python 3.13
    assert names <= {"httpx", "httpcore", "h11", "anyio", "idna", "certifi", "sniffio", "typing_extensions"}
    for name in names:
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (tmp_path / top).exists():
                (tmp_path / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(tmp_path), demo_server.address, str(demo_clip)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a person in red walking to the left\n"
