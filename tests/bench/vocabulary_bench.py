"""What a change of a vocabulary costs, and how many labels can be scored: `make bench`.

Each line is a ratio or a difference taken in one run on one machine.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np

from serve.contract import ScoringContract
from serve.models.runtime import load_runtime
from serve.scoring import score, top_k, unit
from serve.settings import ServeSettings
from tests.running_server import running_server

ROUNDS = 20


def main() -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as folder:
        encoding = asyncio.run(_one_label(Path(folder)))
        change = _change_of_400(Path(folder))
    print(f"encoding one label                       {encoding:8.1f} ms")
    print(f"adding it to 400, until the answer 200   {change:8.1f} ms   {change - encoding:.1f} ms more (promise: 10)")
    print(f"one million labels scored, top 5, D=512  {_million():8.1f} ms   (promise: 100)")


async def _one_label(folder: Path) -> float:
    """Median milliseconds to encode one new prompt."""
    runtime = await load_runtime(ServeSettings(cache_dir=folder / "cache"), "demo")
    times = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        await runtime.bank.features((f"a new label, number {number}",), ("{}",))
        times.append(time.perf_counter() - started)
    await runtime.close()
    return 1000 * statistics.median(times)


def _change_of_400(folder: Path) -> float:
    """Median milliseconds of a PATCH that adds one label to 400, over HTTP, until the next request may use it."""
    with (
        running_server(folder / "server") as server,
        httpx.Client(base_url=server.address, timeout=60) as http,
    ):
        labels = [f"a person doing thing number {number}" for number in range(400)]
        http.put("/v1/vocabularies/bench", json={"labels": labels}, headers={"If-None-Match": "*"}).raise_for_status()
        times = []
        for number in range(ROUNDS):
            change = {
                "add": [f"one more, number {number}"],
                "remove": [f"one more, number {number - 1}"] if number else [],
            }
            started = time.perf_counter()
            answer = http.patch("/v1/vocabularies/bench", json=change, headers={"If-Match": f'"{number + 1}"'})
            times.append(time.perf_counter() - started)
            assert answer.json()["is_current"], answer.text
    return 1000 * statistics.median(times)


def _million() -> float:
    """Milliseconds to score one video against a million labels."""
    random = np.random.default_rng(0)
    bank = unit(random.standard_normal((1, 1_000_000, 512), dtype=np.float32))
    video = random.standard_normal((1, 512), dtype=np.float32)
    contract = ScoringContract(logit_scale=100.0, ensembling="mean_embedding", view_rule="mean_logit")
    return _best(lambda: top_k(score(video, bank, contract, function="softmax"), 5))


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
