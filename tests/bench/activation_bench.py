"""Activate models under load, with embedded engines and a Triton server, and measure the effect of a crash.

Five activations and two rollbacks while 16 clients send 2,000 requests; every answer is compared with the logits of its
version, computed without a server. Then the server is killed under load and restarted.

python -m tests.bench.activation_bench
"""

import asyncio
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from tests.bench.promises import Promise, settle, spread
from tests.models import tiny_checkpoint
from tests.running_server import RunningServer, running_server
from tests.serve.models.test_activation import LABELS, classify, is_of_its_version, offline_logits
from tests.small_repository import publish, shifted
from tests.triton.core import ENVIRONMENT, Ports, TritonCore, free_ports, triton_core
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

REQUESTS, CLIENTS, QUIET = 2000, 16, 200
MOVES = (2, 1, 2, None, None, 1, 2)  # versions to activate; None: rollback
EXPLICIT = ("--model-control-mode=explicit",)
Offline = dict[str, dict[str, float]]


def main() -> None:
    """Print the figures and one JSON line."""
    engines = ["auto", "triton"] if (ENVIRONMENT / "ready").exists() else ["auto"]
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
        figures = {}
        for engine in engines:
            ports = free_ports()
            environment = {
                "SERVE_REPOSITORY": str(folder / "repository"), "SERVE_MODEL": "tiny@1", "SERVE_ENGINE": engine,
                "SERVE_TRITON__URL": f"127.0.0.1:{ports.grpc}",
            }  # fmt: skip
            moved = _moves(folder / engine, environment, clip, offline, ports=ports)
            _tell_moves(engine, moved)
            crashed = _crash(folder / engine, environment, clip, offline, ports=ports)
            _tell_crash(engine, crashed)
            figures[engine] = {"moves": moved, "crash": crashed}
    if "triton" not in engines:
        print("no Triton core (`make triton`): not measured with Triton")
    shown = {
        engine: {**found, "moves": {name: value for name, value in found["moves"].items() if name != "times_ms"}}
        for engine, found in figures.items()
    }
    print(json.dumps({"bench": "activation", **shown}))
    promises = [promise for engine, found in figures.items() for promise in judged(engine, **found)]
    settle(promises, controls(figures, offline))


def judged(engine: str, moves: Mapping[str, Any], crash: Mapping[str, Any]) -> list[Promise]:
    """Return the promises on the figures of an engine."""
    count = moves["requests"]
    return [
        Promise(words=f"{engine}, requests that failed while versions changed", found=moves["failures"], most=0),
        Promise(
            words=f"{engine}, of {count} answers those with the logits of their version",
            found=moves["of_their_version"],
            least=count,
        ),
        Promise(words=f"{engine}, versions that answered", found=len(moves["versions"]), least=2),
        Promise(words=f"{engine}, wrong answers around a crash", found=crash["wrong"], most=0),
        Promise(words=f"{engine}, median seconds of a rollback", found=median(moves["rollbacks_s"]), most=1),
    ]


def controls(figures: Mapping[str, Any], offline: Offline) -> dict[str, list[Promise]]:
    """Return the figures of broken servers, each of which has to break a promise."""
    engine, found = next(iter(figures.items()))
    rows = [{"label": label, "logit": logit} for label, logit in offline["1"].items()]
    answers = {
        "a server that ignores the version": {"model": {"version": "2"}, "results": rows},
        "empty results": {"model": {"version": "1"}, "results": []},
        "a label that is missing": {"model": {"version": "1"}, "results": rows[1:]},
    }
    return {
        name: judged(
            engine,
            {**found["moves"], "of_their_version": found["moves"]["requests"] * is_of_its_version(answer, offline)},
            found["crash"],
        )
        for name, answer in answers.items()
    }


def _core(folder: Path, environment: dict[str, str], ports: Ports) -> AbstractContextManager[TritonCore]:
    repository = Path(environment["SERVE_REPOSITORY"])
    return triton_core(repository, folder / "core", options=EXPLICIT, ports=ports)


def _moves(folder: Path, environment: dict[str, str], clip: Path, offline: Offline, *, ports: Ports) -> dict[str, Any]:
    """Run five activations and two rollbacks under load."""
    answers: list[dict[str, Any]] = []
    faults: Counter[int] = Counter()
    with ExitStack() as stack:
        if environment["SERVE_ENGINE"] == "triton":
            stack.enter_context(_core(folder, environment, ports))
        server = stack.enter_context(running_server(folder / "cache", **environment))
        http = stack.enter_context(httpx.Client(base_url=server.address, timeout=120))
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
                    else:
                        faults[response.status_code] += 1
            return times

        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        quiet = [value for times in pool.map(ask, [_Counter(QUIET)] * CLIENTS) for value in times]
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
    return {
        "requests": REQUESTS, "failures": sum(faults.values()),
        "of_their_version": sum(is_of_its_version(answer, offline) for answer in answers),
        "versions": dict(Counter(answer["model"]["version"] for answer in answers)),
        "median_ms": float(np.median(busy)), "p99_ms": float(np.percentile(busy, 99)), "slowest_ms": max(busy),
        "times_ms": busy, "slowest_without_moves_ms": max(quiet),
        "activations_s": moves["activate"], "rollbacks_s": moves["rollback"],
    }  # fmt: skip


def _crash(folder: Path, environment: dict[str, str], clip: Path, offline: Offline, *, ports: Ports) -> dict[str, Any]:
    """Kill the gateway or its Triton server under load; return clients' answers and the recovery time."""
    if environment["SERVE_ENGINE"] == "triton":
        return _lose_triton(folder, environment, clip, offline, ports=ports)
    with running_server(folder / "cache", **environment) as server, _clients(server, clip) as seen:
        _wait_for(seen, QUIET)
        server.process.kill()
        killed = time.perf_counter()
        with running_server(folder / "cache", **environment) as again, httpx.Client(base_url=again.address) as http:
            answer = classify(http, clip, vocabulary="words", top_k=len(LABELS))
            recovered = time.perf_counter() - killed
            default = http.get("/v1/models").json()["default"]
    return {
        "killed": "gateway", "seen": _counts(seen), "recovered_s": recovered, "default_after": default,
        "wrong": sum(not is_of_its_version(found, offline) for found in [*_answered(seen), answer.json()]),
    }  # fmt: skip


def _lose_triton(
    folder: Path, environment: dict[str, str], clip: Path, offline: Offline, *, ports: Ports
) -> dict[str, Any]:
    with ExitStack() as stack:
        core = stack.enter_context(_core(folder, environment, ports))
        server = stack.enter_context(running_server(folder / "cache", **environment))
        http = stack.enter_context(httpx.Client(base_url=server.address, timeout=60))
        seen = stack.enter_context(_clients(server, clip))
        _wait_for(seen, QUIET)
        core.kill()
        _wait_for(seen, QUIET, since=len(seen))
        started = time.perf_counter()
        stack.enter_context(_core(folder, environment, ports))
        core_ready = time.perf_counter()
        while classify(http, clip, vocabulary="words").status_code != 200:
            time.sleep(0.02)
        recovered = time.perf_counter()
        _wait_for(seen, QUIET, since=len(seen))
        default = http.get("/v1/models").json()["default"]
    return {
        "killed": "Triton server", "seen": _counts(seen), "core_start_s": core_ready - started,
        "recovered_s": recovered - core_ready, "default_after": default,
        "wrong": sum(not is_of_its_version(found, offline) for found in _answered(seen)),
    }  # fmt: skip


@contextmanager
def _clients(server: RunningServer, clip: Path) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Send requests until the end; return a status or the name of a connection error for each, in order."""
    seen: list[tuple[str, dict[str, Any]]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.address, timeout=60) as own:
            while not stop.is_set():
                try:
                    response = classify(own, clip, vocabulary="words", top_k=len(LABELS))
                    seen.append((str(response.status_code), response.json()))
                except httpx.TransportError:
                    seen.append(("no connection", {}))
                    time.sleep(0.05)
                if seen[-1][0] != "200":
                    time.sleep(0.02)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(CLIENTS):
            pool.submit(ask)
        try:
            yield seen
        finally:
            stop.set()


def _wait_for(seen: list[tuple[str, dict[str, Any]]], count: int, *, since: int = 0) -> None:
    while len(seen) < since + count:
        time.sleep(0.01)


def _counts(seen: list[tuple[str, dict[str, Any]]]) -> dict[str, int]:
    return dict(Counter(status for status, _ in seen))


def _answered(seen: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [answer for status, answer in seen if status == "200"]


class _Counter:
    """Counts the remaining requests."""

    def __init__(self, count: int) -> None:
        self.left = count
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            self.left -= 1
            return self.left >= 0


def _tell_moves(engine: str, found: dict[str, Any]) -> None:
    print(
        f"{engine}: {found['requests'] - found['failures']} answered, {found['failures']} failed; "
        f"{found['of_their_version']} carry exactly their version's logits, by version {found['versions']}"
    )
    print(
        f"  median {found['median_ms']:.0f} ms, p99 {found['p99_ms']:.0f}, slowest {found['slowest_ms']:.0f} "
        f"(without a move, {QUIET} requests: {found['slowest_without_moves_ms']:.0f})"
    )
    moves = [", ".join(f"{value:.2f}" for value in found[kind]) for kind in ("activations_s", "rollbacks_s")]
    print(f"  activations {moves[0]} s; rollbacks {moves[1]} s (promise: 1 s)", flush=True)
    print(f"  of a request: {spread(found['times_ms'], 'ms')}", flush=True)


def _tell_crash(engine: str, found: dict[str, Any]) -> None:
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(found["seen"].items()))
    start = f", the server itself {found['core_start_s']:.1f} s" if "core_start_s" in found else ""
    print(
        f"{engine}: {found['killed']} killed; {CLIENTS} clients saw {statuses}; {found['wrong']} wrong answers; "
        f"answers again after {found['recovered_s']:.1f} s{start}; {found['default_after']} serves",
        flush=True,
    )


if __name__ == "__main__":
    main()
