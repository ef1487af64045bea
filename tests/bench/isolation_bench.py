"""The cost of isolating decode children: the same clip decoded with and without isolation, in turn, in one run.

The promise: a request takes at most `MAX_RATIO` times as long with isolation. The control: a new isolated child for
each request.

python -m tests.bench.isolation_bench
"""

import asyncio
import json
import platform
import tempfile
import time
from pathlib import Path
from statistics import median

from serve.video.limits import DecodeSettings
from serve.video.workers import DecodePool
from tests.bench.promises import Promise, settle
from tests.serve.video.conftest import view_request
from tests.synthetic_video import make_video

NUM_REQUESTS, NUM_STARTS = 300, 20
MAX_RATIO = 1.2
POOLS = {
    "off": DecodeSettings(workers=1, threads=1, isolation="off"),
    "auto": DecodeSettings(workers=1, threads=1, isolation="auto"),
    "new child": DecodeSettings(workers=1, threads=1, isolation="auto", max_jobs_per_child=1),
}


async def measure(pools: dict[str, DecodePool], clip: Path) -> dict[str, float]:
    """Return the median milliseconds of a request to each pool."""
    times: dict[str, list[float]] = {name: [] for name in pools}
    for _ in range(NUM_REQUESTS):
        for name, pool in pools.items():
            started = time.perf_counter()
            await pool.views(clip, view_request())
            times[name].append((time.perf_counter() - started) * 1000)
    return {name: median(values) for name, values in times.items()}


async def measure_starts(pools: dict[str, DecodePool]) -> dict[str, float]:
    """Return the median milliseconds to start a child of each pool."""
    times: dict[str, list[float]] = {name: [] for name in pools}
    for _ in range(NUM_STARTS):
        for name, pool in pools.items():
            started = time.perf_counter()
            async with pool.dedicated_child():
                times[name].append((time.perf_counter() - started) * 1000)
    return {name: median(values) for name, values in times.items()}


async def run() -> dict[str, object]:
    """Start both pools and measure them in turn."""
    pools = {name: DecodePool(settings) for name, settings in POOLS.items()}
    with tempfile.TemporaryDirectory() as folder:
        clip = make_video(Path(folder) / "clip.mp4", num_frames=100, width=320, height=240)
        for pool in pools.values():
            await pool.start()
        try:
            request, start = await measure(pools, clip), await measure_starts(pools)
            layers = pools["auto"].isolation
        finally:
            for pool in pools.values():
                await pool.close()
    return {"request_ms": request, "start_ms": start, "layers": layers, "machine": platform.machine()}


def promises_of(request_ms: dict[str, float], name: str) -> list[Promise]:
    """Return the promise for the median milliseconds of a request to each pool."""
    ratio = request_ms[name] / request_ms["off"]
    return [Promise(words="time of a request over that without isolation", found=ratio, most=MAX_RATIO)]


def main() -> None:
    """Print a table and the result as JSON; exit with 1 if the promise is broken."""
    result = asyncio.run(run())
    for name in ("request_ms", "start_ms"):
        values = result[name]
        assert isinstance(values, dict)
        ratio = values["auto"] / values["off"]
        print(f"{name}: off {values['off']:.2f}, isolated {values['auto']:.2f}, ratio {ratio:.2f}, n = {NUM_REQUESTS}")
    print(json.dumps(result))
    request = result["request_ms"]
    assert isinstance(request, dict)
    settle(promises_of(request, "auto"), {"a new child for each request": promises_of(request, "new child")})


if __name__ == "__main__":
    main()
