"""Measure the time of vocabulary changes and of scoring many labels: `make bench`.

Each line is a ratio or a difference of one run on one machine.
"""

import asyncio
import re
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import psutil

from serve.contract import ScoringContract
from serve.models.runtime import load_runtime
from serve.scoring import compute_logits, normalize, reduce_logits, top_k
from serve.settings import ServeSettings
from tests.bench.promises import Promise, settle, spread
from tests.bench.turns import in_turns
from tests.running_server import running_server
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

ROUNDS = 20


def main() -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as folder:
        encoding = asyncio.run(_one_label(Path(folder)))
        whole, change = _change_of_400(Path(folder))
        large = _hundred_thousand(Path(folder))
    print(f"encoding one label                       {encoding:8.1f} ms")
    print(f"adding it to 400, until the answer 200   {change:8.1f} ms   {change - encoding:.1f} ms more (promise: 10)")
    print(f"400 new labels put at once, until the answer 200 {whole:.0f} ms")
    print(
        f"100,000 labels put at once               {large.committed:8.1f} s    in use after {large.in_use:.1f} s; "
        f"a classification {large.meanwhile:.0f} ms meanwhile, {large.slowest:.0f} at most, {large.idle:.0f} before"
    )
    print(
        f"answers out of 100,000 labels            {large.among_all:8.1f} ms   the server grew by "
        f"{large.memory / 2**20:.0f} MiB, {large.peak / 2**20:.0f} at its peak; "
        f"in use {large.loaded:.1f} s after a restart is ready"
    )
    scored, product = _million()
    print(
        f"one million labels scored, top 5, D=512  {spread(scored, 'ms')}; the matrix product {spread(product, 'ms')}"
    )
    million = statistics.median(scored) / statistics.median(product)
    settle(
        judged(change - encoding, whole, large, million),
        {
            "a server that encodes all labels again": judged(whole, whole, large, million),
            "a server that waits for the encoding": judged(
                change - encoding, whole, replace(large, meanwhile=1000 * large.in_use), million
            ),
            "scores computed twice": judged(change - encoding, whole, large, 2 * million),
        },
    )


def judged(change: float, whole: float, large: "Large", million: float) -> list[Promise]:
    """Return the promises, as ratios on one machine; `change` and `whole` are in milliseconds."""
    return [
        Promise(words="one label added, of 400 put at once", found=change / whole, most=0.25),
        Promise(
            words="a classification while 100,000 labels are encoded, of one before",
            found=large.meanwhile / large.idle,
            most=5,
        ),
        Promise(words="classifications while they were encoded", found=large.num_meanwhile, least=20),
        Promise(words="a million labels scored, of the matrix product alone", found=million, most=1.9),
    ]


async def _one_label(folder: Path) -> float:
    """Return the median milliseconds to encode one new prompt."""
    runtime = await load_runtime(ServeSettings(cache_dir=folder / "cache"), "demo")
    times = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        await runtime.bank_builder.build((f"a new label, number {number}",), ("{}",))
        times.append(time.perf_counter() - started)
    await runtime.close()
    return 1000 * statistics.median(times)


def _change_of_400(folder: Path) -> tuple[float, float]:
    """Return milliseconds until the next request uses a PUT of 400 labels, and a PATCH that adds one (median)."""
    with (
        running_server(folder / "server") as server,
        httpx.Client(base_url=server.address, timeout=60) as http,
    ):
        clip = _rendered(folder)
        labels = [f"a person doing thing number {number}" for number in range(400)]
        started = time.perf_counter()
        made = http.put("/v1/vocabularies/bench", json={"labels": labels}, headers={"If-None-Match": "*"})
        whole = 1000 * (time.perf_counter() - started)
        assert made.json()["is_current"], made.text
        times = []
        for number in range(ROUNDS):
            change = {
                "add": [f"one more, number {number}"],
                "remove": [f"one more, number {number - 1}"] if number else [],
            }
            started = time.perf_counter()
            answer = http.patch("/v1/vocabularies/bench", json=change, headers={"If-Match": f'"{number + 1}"'})
            assert answer.json()["is_current"], answer.text
            times.append(time.perf_counter() - started)
            assert change["add"][0] in _labels(http, clip), "the next request uses the label"
    return whole, 1000 * statistics.median(times)


@dataclass(frozen=True, kw_only=True)
class Large:
    """Figures of a large vocabulary: seconds until committed and used, milliseconds of classifications, bytes."""

    committed: float
    in_use: float
    idle: float
    meanwhile: float  # until the new labels were in use
    num_meanwhile: int
    slowest: float
    among_all: float  # a classification with the large vocabulary
    memory: int
    peak: int
    loaded: float  # seconds after a restart


def _hundred_thousand(folder: Path) -> Large:
    """Put a vocabulary of 100,000 labels, and measure short requests while it is encoded."""
    clip = _rendered(folder)
    with (
        running_server(folder / "large") as server,
        httpx.Client(base_url=server.address, timeout=400) as http,
    ):
        idle = [_classified(http, clip) for _ in range(ROUNDS)]
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        labels = [f"a person doing thing number {number}" for number in range(100_000)]
        headers = {"If-None-Match": "*", "Prefer": "wait=0"}
        started = time.perf_counter()
        http.put("/v1/vocabularies/large", json={"labels": labels}, headers=headers).raise_for_status()
        committed = time.perf_counter() - started
        busy = []
        while http.get("/v1/vocabularies/large").json()["current"] is None:
            busy.append(_classified(http, clip))
        in_use = time.perf_counter() - started
        among_all = [_classified(http, clip, vocabulary="large") for _ in range(ROUNDS)]
        memory = process.memory_info().rss - before
        peak = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[0]) * 1024 - before
    with (
        running_server(folder / "large") as server,
        httpx.Client(base_url=server.address, timeout=400) as http,
    ):
        started = time.perf_counter()
        while http.get("/v1/vocabularies/large").json()["current"] is None:
            time.sleep(0.05)
        loaded = time.perf_counter() - started
    return Large(
        among_all=statistics.median(among_all),
        memory=memory,
        peak=peak,
        loaded=loaded,
        committed=committed,
        in_use=in_use,
        idle=statistics.median(idle),
        meanwhile=statistics.median(busy),
        num_meanwhile=len(busy),
        slowest=max(busy),
    )


def _classified(http: httpx.Client, clip: Path, **options: str) -> float:
    """Return the milliseconds of one classification, by default with the default vocabulary."""
    started = time.perf_counter()
    http.post("/v1/classify", files={"video": clip.read_bytes()}, data=options).raise_for_status()
    return 1000 * (time.perf_counter() - started)


def _rendered(folder: Path) -> Path:
    clip = folder / "clip.mp4"
    video = render_video(Combination("walking", "left", "red"), "test", 1, size=160)
    write_video(clip, video.frames, fps=video.fps)
    return clip


def _labels(http: httpx.Client, clip: Path) -> set[str]:
    """Return all labels of an answer with the changed vocabulary."""
    options = {"vocabulary": "bench", "top_k": 401}
    answer = http.post("/v1/classify", files={"video": clip.read_bytes()}, data=options)
    answer.raise_for_status()
    return {row["label"] for row in answer.json()["results"]}


def _million() -> tuple[list[float], list[float]]:
    """Return the milliseconds to score one video against a million labels, and of its matrix product."""
    random = np.random.default_rng(0)
    bank = normalize(random.standard_normal((1, 1_000_000, 512), dtype=np.float32))
    video = random.standard_normal((1, 512), dtype=np.float32)
    contract = ScoringContract(logit_scale=100.0, ensembling="mean_embedding", view_rule="mean_logit")
    ways = {
        "scores": lambda: top_k(reduce_logits(compute_logits(video, bank, contract), contract, function="softmax"), 5),
        "product": lambda: video @ bank[0].T,
    }
    found = in_turns(ways, 9)
    return found["scores"], found["product"]


if __name__ == "__main__":
    main()
