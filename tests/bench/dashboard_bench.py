"""Run every query of the Grafana dashboard on a Prometheus that scrapes a server under load.

    python -m tests.bench.dashboard_bench --seconds 60

Starts a server with the model `demo` and a Prometheus (the Debian package `prometheus`) with the rules of
`deploy/prometheus`, sends classifications, broken files, a vocabulary, a job and an activation, and then evaluates each
query. Each has to return a value.
"""

import argparse
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.bench.promises import Promise, settle
from tests.running_server import ROOT, running_server

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "actserve.json"
RULES = ROOT / "deploy" / "prometheus"
SCRAPE_SECONDS = 2
VARIABLES = {"$__rate_interval": f"{10 * SCRAPE_SECONDS}s", "$instance": ".*"}


def dashboard_queries() -> list[tuple[str, str]]:
    """Return (title of the panel, query with its variables replaced) of every query of the dashboard."""
    queries = []
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            queries.append((panel["title"], query))
    return queries


@contextmanager
def running_prometheus(folder: Path, target: str) -> Iterator[str]:
    """Start Prometheus with the rules of `deploy/prometheus` on a free port of loopback; yield its URL."""
    program = shutil.which("prometheus")
    if program is None:
        raise SystemExit("prometheus is not installed; on Debian: apt-get install prometheus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        f"global: {{scrape_interval: {SCRAPE_SECONDS}s, evaluation_interval: {SCRAPE_SECONDS}s}}\n"
        f"rule_files: ['{RULES}/recording.yml', '{RULES}/alerts.yml']\n"
        f"scrape_configs: [{{job_name: actserve, static_configs: [{{targets: ['{target}']}}]}}]\n",
        encoding="utf-8",
    )
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                program, f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def send_load(http: httpx.Client, clip: bytes, *, seconds: float) -> int:
    """Send classifications, broken files and one of each other kind of request; return their number."""
    labels = {"labels": [{"name": "walking"}, {"name": "waving"}]}
    http.put("/v1/vocabularies/load", json=labels, headers={"If-None-Match": "*"}).raise_for_status()
    http.post("/v1/jobs", files={"video": clip}, data={"kind": "classify"}).raise_for_status()
    http.post("/v1/models/demo:activate", json={}).raise_for_status()
    count, end = 3, time.monotonic() + seconds
    while time.monotonic() < end:
        http.post("/v1/classify", files={"video": clip}).raise_for_status()
        assert http.post("/v1/classify", files={"video": clip[:100]}).status_code in (415, 422)
        count += 2
    return count


def evaluate(url: str, query: str) -> tuple[int, str]:
    """Return (number of values that are not NaN, error) of a query."""
    document: dict[str, Any] = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()
    if document["status"] != "success":
        return 0, str(document["error"])
    return sum(item["value"][1] != "NaN" for item in document["data"]["result"]), ""


def judged(counts: Mapping[str, int], num_unhealthy: int) -> list[Promise]:
    """Return the promises for the numbers of values by query, and the number of rules that fail."""
    return [
        Promise(words="queries of the dashboard", found=len(counts), least=10),
        Promise(words="queries without data", found=sum(not count for count in counts.values()), most=0),
        Promise(words="rules that fail", found=num_unhealthy, most=0),
    ]


def main() -> None:
    """Print the number of values of each query."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=45.0, help="duration of the load")
    options = parser.parse_args()
    from training.demo.captions import Combination
    from training.demo.videos import render_video, write_video

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = render_video(Combination("walking", "left", "red"), "test", 1, size=160)
        write_video(folder / "clip.mp4", video.frames, fps=video.fps)
        clip = (folder / "clip.mp4").read_bytes()
        with (
            running_server(folder) as server,
            running_prometheus(folder, server.address.removeprefix("http://")) as url,
            httpx.Client(base_url=server.address, timeout=300) as http,
        ):
            num_requests = send_load(http, clip, seconds=options.seconds)
            results = [(title, query, *evaluate(url, query)) for title, query in dashboard_queries()]
            rules = httpx.get(f"{url}/api/v1/rules").json()["data"]["groups"]
    for title, query, count, error in results:
        print(f"{'ok  ' if count else 'FAIL'} {count:3} {title}: {error or query[:90]}")
    unhealthy = [rule["name"] for group in rules for rule in group["rules"] if rule["health"] == "err"]
    counts = {f"{title}: {query}": count for title, query, count, _ in results}
    num_empty = sum(not count for count in counts.values())
    print(json.dumps({
        "requests": num_requests, "queries": len(results), "without_data": num_empty,
        "rules": sum(len(group["rules"]) for group in rules), "failing_rules": unhealthy,
    }))  # fmt: skip
    settle(
        judged(counts, len(unhealthy)),
        {"a query without data": judged({**counts, "other": 0}, 0), "a rule that fails": judged(counts, 1)},
    )


if __name__ == "__main__":
    main()
