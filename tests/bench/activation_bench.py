"""Changing the model under load: five activations and two rollbacks while 16 clients send 2,000 requests.

Every answer is compared with the logits of the version it names, taken without a server.

python -m tests.bench.activation_bench
"""

import asyncio
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.models import tiny_checkpoint
from tests.running_server import running_server
from tests.serve.models.test_activation import LABELS, classify, is_of_its_version, offline_logits
from tests.small_repository import publish, shifted
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

REQUESTS, CLIENTS = 2000, 16
MOVES = (2, 1, 2, None, None, 1, 2)  # versions to activate; None: rollback


def main() -> None:
    """Print the figures and one JSON line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in (1, 2):
            publish(shifted(tiny_checkpoint("clip"), seed), "tiny", folder / "repository")
        clip = folder / "clip.mp4"
        video = render_video(Combination("bowing", None, "red"), "test", 4, size=90)
        write_video(clip, video.frames, fps=video.fps)
        offline = {
            version: asyncio.run(offline_logits(folder / "repository", f"tiny@{version}", clip, folder / "offline"))
            for version in ("1", "2")
        }
        quiet, busy, moves, right = _run(folder, clip, offline)
    figures = {
        "requests": len(busy), "failures": REQUESTS - len(busy), "of_their_version": right,
        "median_ms": float(np.median(busy)), "p99_ms": float(np.percentile(busy, 99)), "slowest_ms": max(busy),
        "slowest_without_moves_ms": max(quiet), "activations_s": moves["activate"], "rollbacks_s": moves["rollback"],
    }  # fmt: skip
    print(f"{figures['requests']} answered, {figures['failures']} failed; {right} carry exactly their version's logits")
    print(
        f"median {figures['median_ms']:.0f} ms, p99 {figures['p99_ms']:.0f}, slowest {figures['slowest_ms']:.0f} "
        f"(without a move, 200 requests: {figures['slowest_without_moves_ms']:.0f})"
    )
    print(f"activations {_seconds(moves['activate'])}; rollbacks {_seconds(moves['rollback'])} (promise: 1 s)")
    print(json.dumps({"bench": "activation", **figures}))


def _run(
    folder: Path, clip: Path, offline: dict[str, dict[str, float]]
) -> tuple[list[float], list[float], dict[str, list[float]], int]:
    """Milliseconds of 200 requests in quiet and of all others, seconds of each move, answers that are right."""
    environment = {"SERVE_REPOSITORY": str(folder / "repository"), "SERVE_MODEL": "tiny@1"}
    answers: list[dict[str, Any]] = []
    with (
        running_server(folder / "cache", **environment) as server,
        httpx.Client(base_url=server.address, timeout=120) as http,
    ):
        http.put("/v1/vocabularies/words", json={"labels": list(LABELS)}, headers={"If-None-Match": "*"})

        def ask(counter: "_Counter") -> list[float]:
            times = []
            with httpx.Client(base_url=server.address, timeout=120) as own:
                while counter.take():
                    started = time.perf_counter()
                    response = classify(own, clip, vocabulary="words", top_k=len(LABELS))
                    if response.status_code == 200:
                        times.append(1000 * (time.perf_counter() - started))
                        answers.append(response.json())
            return times

        with ThreadPoolExecutor(CLIENTS) as pool:
            quiet = [value for times in pool.map(ask, [_Counter(200)] * CLIENTS) for value in times]
            answers.clear()
            counter = _Counter(REQUESTS)
            asking = [pool.submit(ask, counter) for _ in range(CLIENTS)]
            moves: dict[str, list[float]] = {"activate": [], "rollback": []}
            for number, version in enumerate(MOVES, start=1):
                while counter.left > REQUESTS * (1 - number / (len(MOVES) + 1)):
                    time.sleep(0.01)
                kind, body = ("rollback", {}) if version is None else ("activate", {"version": version})
                started = time.perf_counter()
                moved = http.post(f"/v1/models/tiny:{kind}", json=body, headers={"Prefer": "wait=100"})
                moved.raise_for_status()
                moves[kind].append(time.perf_counter() - started)
            busy = [value for task in asking for value in task.result()]
    return quiet, busy, moves, sum(is_of_its_version(answer, offline) for answer in answers)


class _Counter:
    """Requests that are left to send."""

    def __init__(self, count: int) -> None:
        self.left = count
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            self.left -= 1
            return self.left >= 0


def _seconds(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values) + " s"


if __name__ == "__main__":
    main()
