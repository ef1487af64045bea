"""A server under 20 times the load that it can serve.

    python -m tests.bench.overload_bench [--seconds 30]

The demo model, the default settings, loopback. First the peak: eight clients, each with one classification after the
other. Then requests arrive at 20 times that rate from 200 connections, whatever is answered; a client ignores
`Retry-After`. Last, one request after the load. The clients run in this process, on the same cores as the server, so
the time of refusals is taken from the log of the server. Memory is that of the server and its children, sampled every
half second. A line of JSON follows.

The promise: answers at 90 % of the peak's rate, all of them within the deadline, refusals in 50 ms (95th percentile),
memory within `MOST_GROWTH_MIB` of the peak's, and an answer one second after the load. The controls: a server that
refuses as late as it answers, and one that answers half as often.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from tests.bench.promises import Promise, settle
from tests.running_server import RunningServer, running_server
from tests.synthetic_video import make_video

PEAK_CLIENTS, OVERLOAD_CLIENTS, FACTOR = 8, 200, 20
DEADLINE_SECONDS = 60.0  # SERVE_LIMITS__REQUEST_DEADLINE_SECONDS
MOST_GROWTH_MIB = 256.0
LOG_LINE = re.compile(r"/v1/classify (\d{3}) ([\d.]+) ms")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured."""

    peak_per_second: float
    answers_per_second: float
    offered_per_second: float
    statuses: dict[str, int]
    slowest_answer_seconds: float
    refusal_p95_ms: float  # in the server
    answer_p95_ms: float  # in the server
    peak_mib: float
    overload_mib: float
    recovery_seconds: float


@dataclass
class Load:
    """The responses that clients got."""

    statuses: Counter[str]
    seconds: list[float]  # of answers


def promises_of(figures: Figures) -> list[Promise]:
    """Return the promises on the figures."""
    return [
        Promise(
            words="answers, share of the peak", found=figures.answers_per_second / figures.peak_per_second, least=0.9
        ),
        Promise(words="slowest answer in seconds", found=figures.slowest_answer_seconds, most=DEADLINE_SECONDS),
        Promise(words="p95 of refusals in ms", found=figures.refusal_p95_ms, most=50.0),
        Promise(words="growth of memory in MiB", found=figures.overload_mib - figures.peak_mib, most=MOST_GROWTH_MIB),
        Promise(words="seconds to an answer after the load", found=figures.recovery_seconds, most=1.0),
        Promise(
            words="other responses than 200 and 503",
            found=float(sum(count for status, count in figures.statuses.items() if status not in ("200", "503"))),
            most=0.0,
        ),
    ]


class Client:
    """Sends the same classification again and again over a connection of its own."""

    def __init__(self, server: RunningServer, clip: bytes, load: Load) -> None:
        self._address = urlsplit(server.address)
        self._request = (
            f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\n"
            f"Content-Length: {len(clip)}\r\n\r\n"
        ).encode() + clip
        self._load = load
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self) -> None:
        """Send a request and record its response; a lost one is recorded as `lost`."""
        started = time.perf_counter()
        try:
            status = await self._exchange()
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            status = "lost"
        self._load.statuses[status] += 1
        if status == "200":
            self._load.seconds.append(time.perf_counter() - started)

    async def _exchange(self) -> str:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._address.hostname, self._address.port)
        reader, writer = self._streams
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        if b"connection: close" in head:
            self.close()
        return head.split()[1].decode()

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def memory_mib(server: RunningServer) -> float:
    """Return the resident memory of the server and its descendants; shared pages count once per process."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))

    def pages(pid: int) -> Iterator[int]:
        try:
            yield int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            return
        for child in children.get(pid, []):
            yield from pages(child)

    return sum(pages(server.process.pid)) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def largest_memory(server: RunningServer) -> float:
    """Sample the memory until cancelled; return the largest value."""
    largest = 0.0
    try:
        while True:
            largest = max(largest, await asyncio.to_thread(memory_mib, server))
            await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        return largest


async def closed_loop(clients: Sequence[Client], *, seconds: float) -> None:
    """Let each client send one request after the other."""
    end = time.perf_counter() + seconds

    async def repeat(client: Client) -> None:
        while time.perf_counter() < end:
            await client.send()

    await asyncio.gather(*map(repeat, clients))


async def open_loop(clients: Sequence[Client], *, per_second: float, seconds: float) -> None:
    """Let requests begin at a rate; a client that still waits is late and does not catch up."""
    end = time.perf_counter() + seconds
    interval = len(clients) / per_second

    async def repeat(number: int, client: Client) -> None:
        await asyncio.sleep(interval * number / len(clients))
        while (started := time.perf_counter()) < end:
            await client.send()
            await asyncio.sleep(max(0.0, started + interval - time.perf_counter()))

    await asyncio.gather(*(repeat(number, client) for number, client in enumerate(clients)))


async def measure(server: RunningServer, clip: bytes, *, seconds: float) -> Figures:
    """Measure peak, overload and recovery."""
    await closed_loop([Client(server, clip, Load(Counter(), []))], seconds=2.0)  # warm-up
    peak, overload, after = (Load(Counter(), []) for _ in range(3))
    sampling = asyncio.create_task(largest_memory(server))
    started = time.perf_counter()
    await closed_loop([Client(server, clip, peak) for _ in range(PEAK_CLIENTS)], seconds=seconds / 2)
    peak_per_second = len(peak.seconds) / (time.perf_counter() - started)
    sampling.cancel()
    peak_mib = await sampling
    first_line = len(server.log)
    sampling = asyncio.create_task(largest_memory(server))
    clients = [Client(server, clip, overload) for _ in range(OVERLOAD_CLIENTS)]
    started = time.perf_counter()
    await open_loop(clients, per_second=FACTOR * peak_per_second, seconds=seconds)
    elapsed = time.perf_counter() - started
    sampling.cancel()
    overload_mib = await sampling
    for client in clients:
        client.close()
    started = time.perf_counter()
    while not after.seconds:
        await Client(server, clip, after).send()
    recovery = time.perf_counter() - started
    found = [match for line in server.log[first_line:] if (match := LOG_LINE.search(line))]
    refusals = [float(match[2]) for match in found if match[1] == "503"]
    answers = [float(match[2]) for match in found if match[1] == "200"]
    return Figures(
        peak_per_second=peak_per_second,
        answers_per_second=len(overload.seconds) / elapsed,
        offered_per_second=overload.statuses.total() / elapsed,
        statuses=dict(overload.statuses),
        slowest_answer_seconds=max(overload.seconds, default=float("inf")),
        refusal_p95_ms=float(np.percentile(refusals, 95)) if refusals else float("nan"),
        answer_p95_ms=float(np.percentile(answers, 95)) if answers else float("nan"),
        peak_mib=peak_mib,
        overload_mib=overload_mib,
        recovery_seconds=recovery,
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the overload; the peak takes half of it")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        clip = make_video(Path(folder) / "clip.mp4", num_frames=60)
        with running_server(Path(folder)) as server:
            figures = asyncio.run(measure(server, clip.read_bytes(), seconds=seconds))
    controls = {
        "refusals as late as answers": promises_of(replace(figures, refusal_p95_ms=max(figures.answer_p95_ms, 51.0))),
        "half of the answers": promises_of(replace(figures, answers_per_second=figures.peak_per_second / 2)),
    }
    print(f"cores {os.cpu_count()}, load {statistics.fmean(os.getloadavg()):.1f}")
    settle(promises_of(figures), controls)
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
