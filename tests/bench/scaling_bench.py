"""Predicted and measured latencies of a server under load, and the machines for a large load.

python -m tests.bench.scaling_bench [CLIP]    # needs simpy, a quiet machine, and about three minutes

The service times of each stage are measured with one request at a time: wall times from the response, processor times
of the server and its decode children from the operating system. The simulation (`tests.bench.scaling_model`) predicts
the latencies of two loads, and requests that arrive at random measure them on the same server. Then it sizes a
deployment for 1 million videos a day with a peak, and for camera streams. A line of JSON follows.

The promise: no request is rejected, and the predicted p95 of both loads is within a factor of `MOST_RATIO` of the
measured one. The control: the
prediction for half of the service times.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from serve.engines.parity_check import processor_name
from tests.bench.promises import Promise, settle
from tests.bench.scaling_model import (
    Prediction,
    ServerShape,
    Service,
    Stage,
    core_seconds,
    quantile,
    servers_needed,
    simulate,
)
from tests.running_server import RunningServer, running_server
from tests.shared_data import VIDEOS

CLIP = VIDEOS / "yoga_a.mp4"
MODEL = "starter"
ROUNDS, MIN_ROUNDS, WARM_UP = 24, 5, 2
BATCHES = (1, 2, 4, 8)
LOADS = (0.4, 0.7)  # of the rate at which the cores would be busy all the time
LOAD_SECONDS = 30.0
MOST_RATIO = 1.5
VIDEOS_PER_DAY, PEAK, P95_SECONDS = 1_000_000, 3.0, 1.0
CAMERAS = 100
PRICE_PER_CORE_HOUR = 0.04  # US dollars; an assumption, see docs/scaling.md


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured with one request at a time."""

    service: Service
    shape: ServerShape
    timeline_core_seconds: float  # of one second of video
    clip_seconds: float


class ProcessorTimes:
    """Processor times of a server: of its own process, and of its decode children."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def read(self) -> tuple[float, float]:
        """Return the seconds of the server process and of all its descendants."""
        children = self._process.children(recursive=True)
        return _seconds(self._process), sum(map(_seconds, children))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def measure(server: RunningServer, clip: Path) -> Measured:
    """Measure the stages with one request at a time."""
    times = ProcessorTimes(server.process.pid)
    content = clip.read_bytes()
    with httpx.Client(base_url=server.address, timeout=120.0) as http:
        engine = {size: _measure_batch(http, times, content, size) for size in BATCHES}
        decode, gateway, duration = _measure_requests(http, times, content, engine[1])
        before = sum(times.read())
        response = http.post("/v1/timeline", files={"video": content})
        response.raise_for_status()
        timeline = sum(times.read()) - before
    cores = len(os.sched_getaffinity(0))
    return Measured(
        service=Service(gateway=gateway, decode=decode, engine=engine),
        shape=ServerShape(cores=cores, decode_children=min(cores, 8)),
        timeline_core_seconds=timeline / duration,
        clip_seconds=duration,
    )


def _classify(http: httpx.Client, content: bytes, num_clips: int = 1) -> dict[str, Any]:
    response = http.post("/v1/classify", files={"video": content}, data={"num_clips": str(num_clips)})
    if response.status_code != 200:
        raise RuntimeError(f"{response.status_code}: {response.text}")
    document: dict[str, Any] = response.json()
    return document


def _measure_batch(http: httpx.Client, times: ProcessorTimes, content: bytes, size: int) -> Stage:
    """Return the stage of the engine for `size` views; what the server process does beside it is less than 5 ms."""
    for _ in range(WARM_UP):
        _classify(http, content, size)
    before, wall, rounds = times.read()[0], [], max(MIN_ROUNDS, ROUNDS // size)
    for _ in range(rounds):
        wall.append(_classify(http, content, size)["timing_ms"]["engine"] / 1000)
    busy = (times.read()[0] - before) / rounds
    seconds = statistics.median(wall)
    return Stage(seconds=seconds, cores=min(max(1.0, busy / seconds), len(os.sched_getaffinity(0))))


def _measure_requests(
    http: httpx.Client, times: ProcessorTimes, content: bytes, engine: Stage
) -> tuple[list[Stage], Stage, float]:
    """Return the stages of decoding, the stage of the gateway and the duration of the clip."""
    decode, other, duration = [], [], 0.0
    before = times.read()[1]
    for _ in range(ROUNDS):
        started = time.perf_counter()
        document = _classify(http, content)
        wall, timing = time.perf_counter() - started, document["timing_ms"]
        decode.append(timing["decode"] / 1000)
        other.append(max(1e-4, wall - (timing["decode"] + timing["engine"]) / 1000))
        duration = document["sampling"]["duration_seconds"]
    cores = max(1.0, (times.read()[1] - before) / sum(decode))
    stages = [Stage(seconds=seconds, cores=min(cores, len(os.sched_getaffinity(0)))) for seconds in decode]
    return stages, Stage(seconds=statistics.median(other), cores=1.0), duration


async def apply_load(
    address: str, content: bytes, *, per_second: float, seconds: float, seed: int
) -> tuple[list[float], int]:
    """Send requests that arrive at random; return the sorted latencies in seconds and the number of rejections."""
    rng, latencies, statuses = random.Random(seed), list[float](), list[int]()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120.0, limits=limits) as http:

        async def send() -> None:
            started = time.perf_counter()
            response = await http.post("/v1/classify", files={"video": content})
            if response.status_code == 200:
                latencies.append(time.perf_counter() - started)
            elif response.status_code != 503:
                raise RuntimeError(f"{response.status_code}: {response.text}")
            statuses.append(response.status_code)

        async with asyncio.TaskGroup() as group:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                group.create_task(send())
                await asyncio.sleep(rng.expovariate(per_second))
    return sorted(latencies), statuses.count(503)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Predicted and measured latencies of one load."""

    per_second: float
    predicted: Prediction
    measured_p50_seconds: float
    measured_p95_seconds: float
    num_requests: int
    num_rejected: int  # the model has no rejections

    @property
    def ratio(self) -> float:
        """The predicted p95 divided by the measured one."""
        return self.predicted.p95_seconds / self.measured_p95_seconds


def compare(server: RunningServer, clip: Path, measured: Measured) -> list[Comparison]:
    """Predict and measure the loads."""
    saturated, content = measured.shape.cores / core_seconds(measured.service), clip.read_bytes()
    found = []
    for seed, share in enumerate(LOADS):
        rate = share * saturated
        predicted = simulate(measured.service, measured.shape, per_second=rate)
        latencies, num_rejected = asyncio.run(
            apply_load(server.address, content, per_second=rate, seconds=LOAD_SECONDS, seed=seed)
        )
        found.append(
            Comparison(
                per_second=rate,
                predicted=predicted,
                measured_p50_seconds=quantile(latencies, 0.5),
                measured_p95_seconds=quantile(latencies, 0.95),
                num_requests=len(latencies),
                num_rejected=num_rejected,
            )
        )
    return found


def plan(measured: Measured, *, price: float) -> dict[str, float]:
    """Return the sizes and costs of the two deployments."""
    rate = VIDEOS_PER_DAY / 86_400
    servers, peak = servers_needed(measured.service, measured.shape, per_second=PEAK * rate, p95_seconds=P95_SECONDS)
    cores = servers * measured.shape.cores
    return {
        "mean_per_second": rate,
        "peak_per_second": PEAK * rate,
        "servers": servers,
        "cores": cores,
        "peak_p95_seconds": peak.p95_seconds,
        "peak_utilization": peak.utilization,
        "core_seconds_per_video": core_seconds(measured.service),
        "dollars_per_million_at_peak_size": cores * 24 * price,
        "dollars_per_million_at_full_use": core_seconds(measured.service) * VIDEOS_PER_DAY / 3600 * price,
        "camera_cores": CAMERAS * measured.timeline_core_seconds,
        "camera_dollars_per_day": CAMERAS * measured.timeline_core_seconds * 24 * price,
    }


def halved(service: Service) -> Service:
    """Return a service of half the times, as a control."""

    def half(stage: Stage) -> Stage:
        return replace(stage, seconds=stage.seconds / 2)

    return Service(
        gateway=half(service.gateway),
        decode=[half(stage) for stage in service.decode],
        engine={size: half(stage) for size, stage in service.engine.items()},
    )


def judged(comparisons: Sequence[Comparison]) -> list[Promise]:
    """Return the promises for the loads that were simulated and measured."""
    promises = []
    for item in comparisons:
        load = f"at {item.per_second:.3g} requests/s"
        promises += [
            Promise(words=f"rejected requests {load}", found=item.num_rejected, most=0),
            Promise(words=f"ratio of p95 {load}", found=item.ratio, least=1 / MOST_RATIO, most=MOST_RATIO),
        ]
    return promises


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path, default=CLIP, help="a video of about 10 seconds")
    parser.add_argument("--price", type=float, default=PRICE_PER_CORE_HOUR, help="US dollars per core and hour")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as cache, running_server(Path(cache), model=MODEL) as server:
        measured = measure(server, chosen.clip)
        comparisons = compare(server, chosen.clip, measured)
    control = [
        replace(item, predicted=simulate(halved(measured.service), measured.shape, per_second=item.per_second))
        for item in comparisons
    ]
    sizes = plan(measured, price=chosen.price)
    service = measured.service
    processor = processor_name().splitlines()[0].rpartition(":")[2].strip()
    print(f"{processor}, {measured.shape.cores} cores, {chosen.clip.name}, {measured.clip_seconds:.1f} s of video")
    print(f"{'stage':<18} {'ms':>8} {'cores':>6}")
    print(f"{'gateway':<18} {service.gateway.seconds * 1000:>8.1f} {service.gateway.cores:>6.2f}")
    decode = statistics.median(stage.seconds for stage in service.decode)
    print(f"{'decode':<18} {decode * 1000:>8.1f} {service.decode[0].cores:>6.2f}")
    for size, stage in service.engine.items():
        print(f"{f'engine, {size} views':<18} {stage.seconds * 1000:>8.1f} {stage.cores:>6.2f}")
    print(f"timeline: {measured.timeline_core_seconds:.3f} core-seconds per second of video")
    print(
        f"{'requests/s':>10} {'p50 predicted':>14} {'measured':>9} {'p95 predicted':>14} {'measured':>9} {'ratio':>6}"
    )
    for item in comparisons:
        print(
            f"{item.per_second:>10.1f} {item.predicted.p50_seconds:>14.3f} {item.measured_p50_seconds:>9.3f} "
            f"{item.predicted.p95_seconds:>14.3f} {item.measured_p95_seconds:>9.3f} {item.ratio:>6.2f} "
            f"{item.num_rejected:>9}"
        )
    for name, value in sizes.items():
        print(f"{name}: {value:.3g}")
    document = {
        "processor": processor, "measured": asdict(measured), "plan": sizes,
        "comparisons": [{**asdict(item), "ratio": item.ratio} for item in comparisons],
    }  # fmt: skip
    print(json.dumps(document))
    settle(judged(comparisons), {"service times that are half of the measured ones": judged(control)})


if __name__ == "__main__":
    main()
