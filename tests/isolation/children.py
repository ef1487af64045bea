"""Run the attempts in children with chosen layers of isolation."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from serve.video.decode_child import DecodeChild
from serve.video.fork_server import ForkServer
from serve.video.isolation.layers import IsolationReport
from serve.video.limits import DecodeSettings
from tests.isolation.attempts import ATTEMPTS

JOB = "tests.isolation.attempts:attempt"
SETTINGS = DecodeSettings(threads=1, isolation="auto")


@contextlib.contextmanager
def prepare_target(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what the attempts aim at: a listening port, a file, a victim process, and a secret in the environment."""
    secret = secrets.token_hex(16)
    other = folder / "another-upload"
    other.write_bytes(b"of another caller")
    os.environ["SERVE_STORE_URL"] = secret
    victim = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield {
                "port": listener.getsockname()[1],
                "file": str(other),
                "server": os.getpid(),
                "victim": victim.pid,
                "secret": secret,
                "host": socket.gethostname(),
                "memory": 2 * SETTINGS.max_memory_bytes,
            }
    finally:
        del os.environ["SERVE_STORE_URL"]
        victim.communicate()


def run_attempts(
    target: dict[str, Any], *, layers: Sequence[str], names: Sequence[str] = tuple(ATTEMPTS)
) -> tuple[dict[str, str], IsolationReport]:
    """Run each attempt in a child of its own with these layers; return the outcomes by name, and the layers reached."""
    server = ForkServer(["tests.isolation.attempts"], layers=layers)
    outcomes = {}
    try:
        for name in names:
            child = DecodeChild(server, SETTINGS)
            try:
                arguments = {"name": name, "target": target}
                outcomes[name] = str(child.call(JOB, Path(target["file"]), arguments).value)
            finally:
                child.close()
        return outcomes, child.isolation
    finally:
        server.close()


def required_layers(name: str) -> tuple[str, ...]:
    """Return the layers that a layer needs: some are only available inside of a user namespace."""
    if name in ("network_namespace", "ipc_namespace", "chroot"):
        return ("user_namespace",)
    return ("no_new_privileges",) if name in ("landlock", "seccomp") else ()
