"""What a change of a vocabulary costs, and how many labels can be scored: `make bench`.

Each line is a ratio or a difference taken in one run on one machine.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from serve.contract import ScoringContract
from serve.models.runtime import load_runtime
from serve.scoring import logits_of, reduce_logits, top_k, unit
from serve.settings import ServeSettings
from tests.running_server import running_server
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

ROUNDS = 20


def main() -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as folder:
        encoding = asyncio.run(_one_label(Path(folder)))
        change = _change_of_400(Path(folder))
        large = _hundred_thousand(Path(folder))
    print(f"encoding one label                       {encoding:8.1f} ms")
    print(f"adding it to 400, until the answer 200   {change:8.1f} ms   {change - encoding:.1f} ms more (promise: 10)")
    print(
        f"100,000 labels put at once               {large.committed:8.1f} s    in use after {large.in_use:.1f} s; "
        f"a classification {large.meanwhile:.0f} ms meanwhile, {large.slowest:.0f} at most, {large.idle:.0f} before"
    )
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


@dataclass(frozen=True, kw_only=True)
class Large:
    """Seconds until a large vocabulary was committed and used; milliseconds of classifications beside it."""

    committed: float
    in_use: float
    idle: float
    meanwhile: float
    slowest: float


def _hundred_thousand(folder: Path) -> Large:
    """A vocabulary of 100,000 labels, and what short requests wait while it is encoded."""
    clip = folder / "clip.mp4"
    video = render_video(Combination("walking", "left", "red"), "test", 1, size=160)
    write_video(clip, video.frames, fps=video.fps)
    with (
        running_server(folder / "large") as server,
        httpx.Client(base_url=server.address, timeout=400) as http,
    ):
        idle = [_classified(http, clip) for _ in range(ROUNDS)]
        labels = [f"a person doing thing number {number}" for number in range(100_000)]
        headers = {"If-None-Match": "*", "Prefer": "wait=0"}
        started = time.perf_counter()
        http.put("/v1/vocabularies/large", json={"labels": labels}, headers=headers).raise_for_status()
        committed = time.perf_counter() - started
        busy = [_classified(http, clip) for _ in range(2 * ROUNDS)]
        while http.get("/v1/vocabularies/large").json()["current"] is None:
            time.sleep(0.5)
        in_use = time.perf_counter() - started
    return Large(
        committed=committed,
        in_use=in_use,
        idle=statistics.median(idle),
        meanwhile=statistics.median(busy),
        slowest=max(busy),
    )


def _classified(http: httpx.Client, clip: Path) -> float:
    """Milliseconds of one classification with the default vocabulary."""
    started = time.perf_counter()
    http.post("/v1/classify", files={"video": clip.read_bytes()}).raise_for_status()
    return 1000 * (time.perf_counter() - started)


def _million() -> float:
    """Milliseconds to score one video against a million labels."""
    random = np.random.default_rng(0)
    bank = unit(random.standard_normal((1, 1_000_000, 512), dtype=np.float32))
    video = random.standard_normal((1, 512), dtype=np.float32)
    contract = ScoringContract(logit_scale=100.0, ensembling="mean_embedding", view_rule="mean_logit")
    return _best(lambda: top_k(reduce_logits(logits_of(video, bank, contract), contract, function="softmax"), 5))


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
