"""A running server that faults are applied to, and the outcome of a case."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.running_server import RunningServer, running_server
from tests.synthetic_video import make_video

REQUEST_SECONDS = 120.0
VOCABULARY = {"labels": ["falling", "rising"], "templates": ["a video of {}"]}


class Skipped(Exception):
    """The case needs something that this machine does not allow."""


@dataclass(frozen=True)
class Outcome:
    """What the server did under a fault and after it; `failures` are expectations that were not met."""

    state: str
    recovery: str
    failures: tuple[str, ...] = ()


class Checks:
    """Collects the expectations that were not met."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def expect(self, condition: bool, description: str) -> None:
        """Record the description if the condition is false."""
        if not condition:
            self.failures.append(description)


@dataclass
class World:
    """One server with its folders, and a clip to send."""

    server: RunningServer
    folder: Path
    clip: Path

    def classify(self, clip: Path | None = None) -> httpx.Response:
        """Send a clip."""
        body = (clip or self.clip).read_bytes()
        files = {"video": ("clip.mp4", body, "video/mp4")}
        return httpx.post(f"{self.server.address}/v1/classify", files=files, timeout=REQUEST_SECONDS)

    def put_vocabulary(self, name: str) -> httpx.Response:
        """Create a vocabulary."""
        headers = {"If-None-Match": "*", "Prefer": "wait=0"}
        url = f"{self.server.address}/v1/vocabularies/{name}"
        return httpx.put(url, json=VOCABULARY, headers=headers, timeout=REQUEST_SECONDS)

    def ready(self) -> dict[str, Any]:
        """Return the body of `/readyz`."""
        body: dict[str, Any] = httpx.get(f"{self.server.address}/readyz", timeout=REQUEST_SECONDS).json()
        return body

    def degraded(self) -> str:
        """Return the reasons in `/readyz`."""
        return "; ".join(self.ready().get("degraded", ()))

    def fork_server(self) -> psutil.Process:
        """Return the process from which decode children are forked."""
        children = psutil.Process(self.server.process.pid).children()
        return next(child for child in children if "serve.video.fork_server" in child.cmdline())

    def decode_children(self) -> list[psutil.Process]:
        """Return the decode children."""
        return self.fork_server().children()


@contextlib.contextmanager
def start_world(folder: Path, **environment: str) -> Iterator[World]:
    """Start a server of the bundled demo model whose folders are in `folder`."""
    uploads = folder / "uploads"
    uploads.mkdir(exist_ok=True)
    clip = make_video(folder / "clip.mp4", num_frames=16)
    settings = {"SERVE_UPLOAD_DIR": str(uploads), "SERVE_ENGINE": "onnxruntime-cpu", "SERVE_DECODE__WORKERS": "1"}
    with running_server(folder / "cache", **{**settings, **environment}) as server:
        yield World(server, folder, clip)


@contextlib.contextmanager
def small_disk(folder: Path, *, num_bytes: int) -> Iterator[Path]:
    """Mount a small disk in memory on a folder.

    Raises:
        Skipped: this process may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        raise Skipped("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write a file until the disk of the folder is full; return the file."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    return path


Case = Callable[[Path], Outcome]
