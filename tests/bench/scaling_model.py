"""A simulation of servers under load: gateways, the fair queue, decode children, engine batches and their processors.

Each server has its own cores, which its stages share: a stage has an amount of work in core-seconds and a number of
cores that it can use at most, and the cores are divided evenly among the stages that run (processor sharing). The queue
of requests is the one of the server, `serve.admission.fair_queue`; batches are formed by the rule of `serve.batcher`.
"""

import random
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

from serve.admission.fair_queue import FairQueue

EPSILON = 1e-9
Process = Generator[Any, Any, Any]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Wall time of a stage on an idle machine, and the number of cores that it then keeps busy."""

    seconds: float
    cores: float


@dataclass(frozen=True, kw_only=True)
class Service:
    """Measured service times of one server."""

    gateway: Stage  # everything on the event loop: parsing, scoring, the response
    decode: Sequence[Stage]  # one of them is drawn for each video
    engine: Mapping[int, Stage]  # by the number of views in a batch; interpolated


@dataclass(frozen=True, kw_only=True)
class ServerShape:
    """The resources of one server, by its settings."""

    cores: int
    decode_children: int
    max_views: int = 8  # SERVE_BATCH__MAX_VIEWS

    @property
    def running_views(self) -> int:
        """Views of requests that run; the others wait in the fair queue."""
        return self.decode_children + 2 * self.max_views


@dataclass(eq=False)
class _Work:
    """Remaining work of a stage."""

    core_seconds: float
    cores: float
    done: simpy.Event


class Processor:
    """The cores of one server, shared by the stages that run."""

    def __init__(self, env: simpy.Environment, cores: int) -> None:
        self._env, self._cores = env, float(cores)
        self._running: list[_Work] = []
        self._since = 0.0
        self._wake = env.event()
        self.busy_core_seconds = 0.0
        env.process(self._run())

    def run(self, stage: Stage) -> simpy.Event:
        """Return the event at which the work of a stage is done."""
        done = self._env.event()
        self._advance()
        self._running.append(_Work(max(stage.seconds * stage.cores, EPSILON), stage.cores, done))
        self._wake.succeed()
        self._wake = self._env.event()
        return done

    def _rates(self) -> list[float]:
        """Return the cores of each stage: even shares, none above what the stage can use."""
        rates, left = [0.0] * len(self._running), self._cores
        waiting = sorted(range(len(self._running)), key=lambda index: self._running[index].cores)
        for position, index in enumerate(waiting):
            rates[index] = min(self._running[index].cores, left / (len(waiting) - position))
            left -= rates[index]
        return rates

    def _advance(self) -> None:
        """Account for the work since the last change."""
        passed, self._since = self._env.now - self._since, self._env.now
        for work, rate in zip(self._running, self._rates(), strict=True):
            work.core_seconds -= rate * passed
            self.busy_core_seconds += rate * passed

    def _run(self) -> Process:
        while True:
            if not self._running:
                yield self._wake
                continue
            next_end = min(work.core_seconds / rate for work, rate in zip(self._running, self._rates(), strict=True))
            yield self._env.timeout(max(next_end, 0.0)) | self._wake
            self._advance()
            for work in [work for work in self._running if work.core_seconds <= EPSILON]:
                self._running.remove(work)
                work.done.succeed()


class Server:
    """One gateway with its decode children and its engine."""

    def __init__(self, env: simpy.Environment, service: Service, shape: ServerShape, rng: random.Random) -> None:
        self._env, self._service, self._shape, self._rng = env, service, shape, rng
        self.processor = Processor(env, shape.cores)
        self._loop = simpy.Resource(env)  # the event loop does one thing at a time
        self._children = simpy.Resource(env, shape.decode_children)
        self._queue: FairQueue[simpy.Event] = FairQueue()
        self._views_running = 0
        self._views: deque[simpy.Event] = deque()
        self._wake = env.event()
        self.batch_sizes: list[int] = []
        env.process(self._run_engine())

    def classify(self, client: str, latencies: list[float]) -> Process:
        """Process one request of one view and record its latency in seconds."""
        started = self._env.now
        yield from self._on_loop(0.5)
        yield from self._enter(client)
        with self._children.request() as child:
            yield child
            yield self.processor.run(self._rng.choice(self._service.decode))
        done = self._env.event()
        self._views.append(done)
        self._wake.succeed()
        self._wake = self._env.event()
        yield done
        self._leave()
        yield from self._on_loop(0.5)
        latencies.append(self._env.now - started)

    def _on_loop(self, share: float) -> Process:
        stage = self._service.gateway
        with self._loop.request() as turn:
            yield turn
            yield self.processor.run(Stage(seconds=stage.seconds * share, cores=stage.cores))

    def _enter(self, client: str) -> Process:
        if self._views_running < self._shape.running_views and not len(self._queue):
            self._views_running += 1
            return
        start = self._env.event()
        self._queue.push("light", client, start, 1)
        yield start

    def _leave(self) -> None:
        start = self._queue.pop(["light"])
        if start is None:
            self._views_running -= 1
        else:
            start.succeed()  # takes over the view

    def _run_engine(self) -> Process:
        while True:
            if not self._views:
                yield self._wake
                continue
            batch = [self._views.popleft() for _ in range(min(self._shape.max_views, len(self._views)))]
            self.batch_sizes.append(len(batch))
            yield self.processor.run(engine_stage(self._service.engine, len(batch)))
            for done in batch:
                done.succeed()


def engine_stage(measured: Mapping[int, Stage], num_views: int) -> Stage:
    """Return the stage of a batch, interpolated between the measured sizes."""
    if num_views in measured:
        return measured[num_views]
    low = max((size for size in measured if size < num_views), default=min(measured))
    high = min((size for size in measured if size > num_views), default=max(measured))
    share = 0.0 if low == high else (num_views - low) / (high - low)
    first, second = measured[low], measured[high]
    return Stage(
        seconds=first.seconds + share * (second.seconds - first.seconds),
        cores=first.cores + share * (second.cores - first.cores),
    )


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Latencies of a simulated load."""

    mean_seconds: float
    p50_seconds: float
    p95_seconds: float
    utilization: float  # of all cores
    mean_batch: float
    num_requests: int


def simulate(
    service: Service, shape: ServerShape, *, per_second: float, num_servers: int = 1, num_requests: int = 4000,
    num_clients: int = 8, seed: int = 0,
) -> Prediction:  # fmt: skip
    """Simulate requests that arrive at random (Poisson) and go to the servers in turn."""
    env, rng, latencies = simpy.Environment(), random.Random(seed), list[float]()
    servers = [Server(env, service, shape, rng) for _ in range(num_servers)]
    requests: list[simpy.Process] = []

    def arrive() -> Process:
        for index in range(num_requests):
            yield env.timeout(rng.expovariate(per_second))
            server = servers[index % num_servers]
            requests.append(env.process(server.classify(f"client {rng.randrange(num_clients)}", latencies)))

    arrivals = env.process(arrive())
    env.run(until=arrivals)
    env.run(until=simpy.AllOf(env, requests))
    ordered = sorted(latencies)
    sizes = [size for server in servers for size in server.batch_sizes]
    busy = sum(server.processor.busy_core_seconds for server in servers)
    return Prediction(
        mean_seconds=sum(ordered) / len(ordered),
        p50_seconds=quantile(ordered, 0.5),
        p95_seconds=quantile(ordered, 0.95),
        utilization=busy / (env.now * shape.cores * num_servers),
        mean_batch=sum(sizes) / len(sizes),
        num_requests=len(ordered),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5)
    3.0
    """
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def core_seconds(service: Service, *, batch: int = 1) -> float:
    """Return the core-seconds of one request, at a mean batch size."""
    decode = sum(stage.seconds * stage.cores for stage in service.decode) / len(service.decode)
    engine = engine_stage(service.engine, batch)
    return service.gateway.seconds * service.gateway.cores + decode + engine.seconds * engine.cores / batch


def servers_needed(
    service: Service, shape: ServerShape, *, per_second: float, p95_seconds: float, num_requests: int = 4000
) -> tuple[int, Prediction]:
    """Return the smallest number of servers whose simulated p95 is at most `p95_seconds`, and the prediction.

    Raises:
        ValueError: no number reaches it, because an idle server takes longer.
    """
    idle = simulate(service, shape, per_second=1e-3, num_requests=200)
    if idle.p95_seconds > p95_seconds:
        raise ValueError(f"an idle server takes {idle.p95_seconds:.3f} s")
    number = max(1, int(per_second * core_seconds(service, batch=shape.max_views) / shape.cores))
    while True:
        found = simulate(
            service, shape, per_second=per_second, num_servers=number, num_requests=max(num_requests, 200 * number)
        )
        if found.p95_seconds <= p95_seconds:
            return number, found
        number += max(1, number // 50)
