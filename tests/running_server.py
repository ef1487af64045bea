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
def running_server(cache_dir: Path, **environment: str) -> Iterator[RunningServer]:
    """Start `python -m serve` on a free port and wait until it says ready; stopped with SIGTERM."""
    folders = {"SERVE_CACHE_DIR": str(cache_dir), "SERVE_DATA_DIR": str(cache_dir / "data")}
    variables = {**os.environ, "SERVE_PORT": "0", **folders, **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "serve"],
        cwd=ROOT,
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
