"""A real server as a process of its own, for tests that go through HTTP."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 600  # ends a start that hangs; no machine needs a minute


@dataclass
class RunningServer:
    """Its address, its process and what it printed."""

    address: str
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)


@contextmanager
def running_server(
    cache_dir: Path, *, model: str | None = "demo", folder: Path = ROOT, **environment: str
) -> Iterator[RunningServer]:
    """Start `python -m serve` in a folder, on a free port, and wait until it says ready; stopped with SIGTERM.

    It serves `demo`, which knows rendered videos, unless SERVE_MODEL names another; with None, its own default.
    """
    folders = {"SERVE_CACHE_DIR": str(cache_dir), "SERVE_DATA_DIR": str(cache_dir / "data")}
    named = {} if model is None else {"SERVE_MODEL": model}
    variables = {**os.environ, "SERVE_PORT": "0", **named, **folders, **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "serve"],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = RunningServer("", process)
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            server.log.append(line)
            found = re.search(r"page +(http://\S+?)/\s", line)
            if found:
                server.address = found[1]
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        if not ready.wait(READY_SECONDS) or not server.address:
            raise RuntimeError(f"the server did not become ready: {''.join(server.log)}")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(5)
        assert process.stdout is not None
        process.stdout.close()
