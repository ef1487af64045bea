"""Faults under load in the local cluster: a killed gateway, a restarted database, and gateways rolled one by one.

    python -m tests.bench.cluster_bench --seconds 15

Clients classify through the balancer without retries, and another one creates vocabularies. Counted are failed
requests in each phase and acknowledged vocabularies that are missing at the end. Exits with 1 if one is missing, if a
rolling restart fails a request, or if a killed gateway loses more requests than it was processing.
"""

import argparse
import importlib.util
import json
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.bench.promises import Promise, settle
from tests.running_server import ROOT


def load_cluster() -> Any:
    """Import `deploy/local-cluster/cluster.py`, whose folder is not a package."""
    path = ROOT / "deploy" / "local-cluster" / "cluster.py"
    spec = importlib.util.spec_from_file_location("local_cluster", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Load:
    """Clients that send requests until they are stopped, and what became of the requests by phase."""

    def __init__(self, url: str, clip: bytes, *, num_clients: int) -> None:
        self._url = url
        self._clip = clip
        self._stop = threading.Event()
        self.phase = "calm"
        self.outcomes: dict[str, Counter[str]] = {}
        self.changes: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self._threads = [threading.Thread(target=self._classify) for _ in range(num_clients)]
        self._threads.append(threading.Thread(target=self._change))

    def start(self) -> None:
        """Start the clients."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the clients after their current request."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _classify(self) -> None:
        with httpx.Client(base_url=self._url, timeout=120) as http:
            while not self._stop.is_set():
                try:
                    status = http.post("/v1/classify", files={"video": self._clip}).status_code
                    outcome = "ok" if status == 200 else str(status)
                except httpx.TransportError as error:
                    outcome = f"{type(error).__name__}: {error}"
                self.outcomes.setdefault(self.phase, Counter())[outcome] += 1  # of the phase in which it ended

    def _change(self) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=120) as http:
            while not self._stop.wait(0.2):
                number += 1
                name = f"v{number}"
                body = {"labels": [{"name": f"walking {number}"}]}
                try:
                    response = http.put(f"/v1/vocabularies/{name}", json=body, headers={"If-None-Match": "*"})
                except httpx.TransportError as error:
                    self.changes[type(error).__name__] += 1
                    continue
                self.changes[str(response.status_code)] += 1
                if response.is_success:
                    self.acknowledged.append(name)


def run_phases(cluster: Any, load: Load, *, seconds: float) -> None:
    """Run each fault for at least `seconds` under load."""

    def kill() -> None:
        cluster.stop_gateway(0, number=signal.SIGKILL)
        time.sleep(seconds / 2)
        cluster.start_gateway(0)
        cluster.wait_until_ready(0)

    phases: dict[str, Callable[[], None]] = {
        "calm": lambda: None,
        "kill": kill,
        "database": cluster.restart_postgres,
        "roll": cluster.roll,
    }
    for name, act in phases.items():
        load.phase = name
        started = time.monotonic()
        act()
        time.sleep(max(1.0, seconds - (time.monotonic() - started)))


def names_in_store(url: str) -> set[str]:
    """Return the names of all vocabularies."""
    names, token = set(), ""
    while True:
        page = httpx.get(f"{url}/v1/vocabularies", params={"page_token": token} if token else {}, timeout=60).json()
        names |= {item["name"] for item in page["vocabularies"]}
        token = page.get("next_page_token") or ""
        if not token:
            return names


def judged(failed: Mapping[str, int], *, num_clients: int, num_missing: int) -> list[Promise]:
    """Return the promises for the failed requests by phase and the acknowledged changes that are missing."""
    return [
        Promise(words="acknowledged changes that are missing", found=num_missing, most=0),
        *(
            Promise(words=f"failed requests, {phase}", found=failed.get(phase, float("nan")), most=most)
            for phase, most in {"calm": 0, "kill": num_clients, "database": 0, "roll": 0}.items()
        ),
    ]


def main() -> None:
    """Print the outcomes by phase and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="shortest duration of a phase")
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    module = load_cluster()
    clip = (ROOT / "serve" / "web" / "example.mp4").read_bytes()
    with tempfile.TemporaryDirectory(prefix="actserve-cluster-") as name:
        cluster = module.Cluster(Path(name), model="demo", variables={"SERVE_DECODE__WORKERS": "1"})
        try:
            cluster.start()
            load = Load(cluster.url, clip, num_clients=options.clients)
            load.start()
            try:
                run_phases(cluster, load, seconds=options.seconds)
            finally:
                load.stop()
            missing = set(load.acknowledged) - names_in_store(cluster.url)
        finally:
            cluster.close()
    failed = {phase: sum(count for outcome, count in counts.items() if outcome != "ok")
              for phase, counts in load.outcomes.items()}  # fmt: skip
    for phase, counts in load.outcomes.items():
        print(f"{phase:9} {dict(counts)}")
    print(f"changes   {dict(load.changes)}")
    print(json.dumps({
        "requests": sum(sum(counts.values()) for counts in load.outcomes.values()), "failed": failed,
        "acknowledged_changes": len(load.acknowledged), "missing_changes": len(missing),
    }))  # fmt: skip
    settle(
        judged(failed, num_clients=options.clients, num_missing=len(missing)),
        {
            "a lost change": judged(failed, num_clients=options.clients, num_missing=1),
            "a rolling restart that fails a request": judged(
                {**failed, "roll": 1}, num_clients=options.clients, num_missing=len(missing)
            ),
        },
    )


if __name__ == "__main__":
    main()
