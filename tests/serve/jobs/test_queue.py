"""The queue of inputs on SQLite and on PostgreSQL: leases, fences, turns, counts, states."""

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from serve.errors import IdempotencyKeyReused, JobsFull, UnknownJob
from serve.jobs.queue import InputQueue
from serve.jobs.records import Claim, Job, NewInput, NewJob
from serve.jobs.steps import JobSteps
from serve.jobs.store import JobStore
from serve.models.routing import RouteStore
from serve.store.database import Database, sqlite_url
from serve.store.schema import job_inputs, jobs
from serve.vocabularies.store import VocabularyStore
from tests.running_server import ROOT

LONG = 1000.0
PROBLEM = {"type": "/problems/undecodable-video", "status": 422, "title": "Undecodable video", "detail": "broken"}


def new_job(count: int = 3, **values: object) -> NewJob:
    inputs = tuple(NewInput(name=f"{n}.mp4", source="upload", location=str(n), num_bytes=100) for n in range(count))
    return NewJob(**{"kind": "classify", "options": {"top_k": 2}, "inputs": inputs, "storage_id": "here", **values})


@pytest.fixture
def store(database: Database) -> JobStore:
    return JobStore(database, max_jobs=5, max_stored_bytes=10_000, deadline_seconds=LONG)


@pytest.fixture
def steps(database: Database) -> JobSteps:
    return JobSteps(database, storage_id="here", lease_seconds=LONG, keep_seconds=LONG)


@pytest.fixture
def gateway(database: Database) -> Callable[..., InputQueue]:
    """Make the queue as a gateway sees it."""

    def make(worker_id: str = "one", *, storage_id: str = "here", max_attempts: int = 3) -> InputQueue:
        return InputQueue(
            database, worker_id=worker_id, storage_id=storage_id, lease_seconds=LONG, max_attempts=max_attempts
        )

    return make


def started(store: JobStore, steps: JobSteps, new: NewJob) -> str:
    job, is_new = store.create(new)
    assert is_new
    steps.begin(job.id, options=new.options, inputs=None)
    return job.id


def expire_leases(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(job_inputs.update().values(lease_expires_at=job_inputs.c.lease_expires_at - 2 * LONG))


def taken(queue: InputQueue) -> Claim:
    claim = queue.take()
    assert claim is not None
    return claim


def test_a_job_goes_from_validating_to_completed(
    store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]
) -> None:
    queue = gateway()
    job, _ = store.create(new_job())
    assert (job.status, job.num_inputs, job.progress) == ("validating", 3, 0.0)
    assert queue.take() is None, "it is not validated"
    step = steps.take()
    assert step is not None
    assert (step.id, step.status) == (job.id, "validating")
    assert steps.take() is None, "one gateway at a time validates it"
    steps.begin(job.id, options={"top_k": 2, "vocabulary": "demo@1"}, inputs=None)
    claims = [taken(queue) for _ in range(3)]
    assert [claim.index for claim in claims] == [0, 1, 2]
    assert claims[0].options == {"top_k": 2, "vocabulary": "demo@1"}
    assert queue.take() is None
    assert queue.complete(claims[0], '{"results":[]}')
    assert queue.fail(claims[1], PROBLEM)
    queue.renew({claims[2]: 0.5})
    assert store.load(job.id).progress == pytest.approx(2.5 / 3)
    assert queue.complete(claims[2], "{}")
    assert store.load(job.id).status == "finalizing"
    step = steps.take()
    assert step is not None
    assert step.status == "finalizing"
    steps.finalize(job.id)
    done = store.load(job.id)
    assert (done.status, done.counts, done.progress) == ("completed", {"total": 3, "completed": 2, "failed": 1}, 1.0)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert [row.index for row in store.inputs(job.id, state="completed", after=-1, limit=9)] == [0, 2]
    (failed,) = store.inputs(job.id, state="failed", after=-1, limit=9)
    assert json.loads(failed.problem or "") == PROBLEM
    _, events = store.events(job.id, after=0, limit=99)
    assert [event.number for event in events] == list(range(1, done.num_events + 1))
    assert [json.loads(event.data)["status"] for event in events if event.kind == "status"] == [
        "validating", "in_progress", "finalizing", "completed",
    ]  # fmt: skip
    assert [json.loads(event.data)["index"] for event in events if event.kind == "input"] == [0, 1, 2]
    assert [event.number for event in store.events(job.id, after=3, limit=2)[1]] == [4, 5]


def test_a_lost_lease_returns_the_input_and_its_late_result_is_discarded(
    database: Database, store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]
) -> None:
    job_id = started(store, steps, new_job(1))
    stalled, other = gateway("stalled"), gateway("other")
    first = taken(stalled)
    assert other.take() is None
    expire_leases(database)
    second = taken(other)
    assert (second.index, second.attempt) == (0, 2)
    assert stalled.renew({first: 0.1}) == set()
    assert not stalled.complete(first, '"late"')
    stalled.give_back(first)
    assert other.renew({second: 0.1}) == {second}
    assert other.complete(second, '"right"')
    assert not other.complete(second, '"twice"')
    (row,) = store.inputs(job_id, state="completed", after=-1, limit=9)
    assert (row.result, row.attempts) == ('"right"', 2)
    assert store.load(job_id).counts == {"total": 1, "completed": 1, "failed": 0}


def test_an_input_whose_processes_always_die_is_failed(
    database: Database, store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]
) -> None:
    job_id = started(store, steps, new_job(2))
    queue = gateway(max_attempts=2)
    for _ in range(2):
        assert taken(queue).index == 0
        expire_leases(database)
    assert taken(queue).index == 1
    (row,) = store.inputs(job_id, state="failed", after=-1, limit=9)
    problem = json.loads(row.problem or "")
    assert (problem["type"], problem["attempts"]) == ("/problems/input-abandoned", 2)


def test_an_attempt_that_ends_with_the_server_does_not_count(
    store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]
) -> None:
    started(store, steps, new_job(1))
    queue = gateway(max_attempts=1)
    for _ in range(3):
        claim = taken(queue)
        assert claim.attempt == 1
        queue.give_back(claim, count_attempt=False)
    queue.give_back(taken(queue), delay_seconds=LONG)
    assert queue.take() is None, "it waits until its next attempt"


def test_jobs_take_turns(store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]) -> None:
    ids = [started(store, steps, new_job(2)) for _ in range(2)]
    queue = gateway()
    order = [taken(queue).job_id for _ in range(4)]
    assert set(order[:2]) == set(order[2:]) == set(ids)


def test_a_gateway_without_the_uploads_leaves_them(
    database: Database, store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]
) -> None:
    far = gateway(storage_id="elsewhere")
    far_steps = JobSteps(database, storage_id="elsewhere", lease_seconds=LONG, keep_seconds=LONG)
    job_id = store.create(new_job(1))[0].id
    assert far_steps.take() is None
    steps.begin(job_id, options={}, inputs=None)
    assert far.take() is None
    assert gateway().complete(taken(gateway()), "{}")
    found = far_steps.take()
    assert found is not None, "whose gateway may be gone"
    assert (found.id, found.status) == (job_id, "finalizing")
    started(store, steps, new_job(1, storage_id=None))
    assert far.take() is not None


def test_a_cancelled_job_starts_nothing_and_ends_when_its_running_inputs_do(
    database: Database, store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]
) -> None:
    job_id = started(store, steps, new_job(3))
    queue = gateway()
    kept, stopped = taken(queue), taken(queue)
    assert store.cancel(job_id).status == "cancelling"
    assert queue.take() is None
    assert queue.renew({kept: 0.5, stopped: 0.5}) == set()
    assert queue.complete(kept, "{}"), "a result that is there counts"
    assert store.load(job_id).status == "cancelling"
    queue.give_back(stopped, count_attempt=False)
    found = store.load(job_id)
    assert (found.status, found.counts) == ("cancelled", {"total": 3, "completed": 1, "failed": 0})
    assert store.cancel(job_id).status == "cancelled"
    lost = started(store, steps, new_job(1))
    taken(queue)
    store.cancel(lost)
    steps.end_overdue()
    assert store.load(lost).status == "cancelling", "its gateway may still work"
    expire_leases(database)
    steps.end_overdue()
    assert store.load(lost).status == "cancelled"


def test_an_overdue_job_expires_and_keeps_its_results(
    database: Database, store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]
) -> None:
    job_id = started(store, steps, new_job(2))
    queue = gateway()
    assert queue.complete(taken(queue), "{}")
    late = taken(queue)
    with database.writing() as connection:
        connection.execute(jobs.update().values(deadline_at=1.0))
    steps.end_overdue()
    assert store.load(job_id).status == "expired"
    assert not queue.complete(late, "{}")
    assert len(store.inputs(job_id, state="completed", after=-1, limit=9)) == 1


def test_a_finished_job_is_deleted_with_all_it_holds(
    database: Database, store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]
) -> None:
    job_id = started(store, steps, new_job(1, webhook_url="https://example.com/"))
    assert not store.delete(job_id)
    gateway().complete(taken(gateway()), "{}")
    steps.finalize(job_id)
    assert store.delivery(job_id) is not None
    assert store.delete(job_id)
    with pytest.raises(UnknownJob):
        store.load(job_id)
    with database.reading() as connection:
        for table in ("jobs", "job_inputs", "job_events", "webhook_deliveries"):
            assert connection.execute(sa.text(f"select count(*) from {table}")).scalar() == 0
    old = started(store, steps, new_job(1))
    store.cancel(old)
    assert steps.delete_old() == 0
    with database.writing() as connection:
        connection.execute(jobs.update().values(finished_at=1.0))
    assert steps.delete_old() == 1


def test_an_idempotency_key_makes_one_job_however_many_requests_arrive(store: JobStore) -> None:
    barrier, made = threading.Barrier(4), []

    def create() -> None:
        new = new_job(idempotency_key="key", content_hash="a")
        barrier.wait()
        made.append(store.create(new))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job, _ in made}) == 1
    assert sorted(is_new for _, is_new in made) == [False, False, False, True]
    assert store.create(new_job(idempotency_key="key", content_hash="b", key_id="another"))[1]
    with pytest.raises(IdempotencyKeyReused):
        store.create(new_job(idempotency_key="key", content_hash="b"))


def test_limits_of_jobs_and_of_their_uploads(store: JobStore, steps: JobSteps) -> None:
    with pytest.raises(JobsFull, match="bytes"):
        store.create(new_job(101))
    ids = [store.create(new_job(1))[0].id for _ in range(5)]
    with pytest.raises(JobsFull, match="5 jobs"):
        store.require_room()
    store.cancel(ids[0])
    store.require_room()


def test_pages_show_every_job_once(store: JobStore) -> None:
    ids = [store.create(new_job(1, kind=kind))[0].id for kind in ("classify", "embed", "timeline", "embed")]
    seen: list[Job] = []
    while page := store.page(
        status=None, kind=None, after=(seen[-1].created_at, seen[-1].id) if seen else None, limit=3
    ):
        seen += page
    assert [job.id for job in seen] == ids[::-1]
    assert [job.id for job in store.page(status="validating", kind="embed", after=None, limit=9)] == [ids[3], ids[1]]
    assert store.page(status="failed", kind=None, after=None, limit=9) == []


def test_many_gateways_do_each_input_once(store: JobStore, steps: JobSteps, gateway: Callable[..., InputQueue]) -> None:
    ids = [started(store, steps, new_job(20)) for _ in range(2)]
    done: list[tuple[str, int]] = []

    def work(worker_id: str) -> None:
        queue = gateway(worker_id)
        while len(done) < 40:
            claim = queue.take()
            if claim is not None and queue.complete(claim, "{}"):
                done.append((claim.job_id, claim.index))

    threads = [threading.Thread(target=work, args=(f"gateway-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted((job_id, number) for job_id in ids for number in range(20))
    for job_id in ids:
        assert store.load(job_id).counts == {"total": 20, "completed": 20, "failed": 0}
        assert len(store.events(job_id, after=0, limit=99)[1]) == 20 + 3  # each input once, and three states


def migrated(path: Path, dump: str) -> Database:
    connection = sqlite3.connect(path)
    connection.executescript((ROOT / "tests/golden/store" / dump).read_text(encoding="utf-8"))
    connection.close()
    database = Database(sqlite_url(path))
    database.migrate()
    return database


def test_jobs_of_the_release_before_owners_go_on_and_belong_to_no_key(tmp_path: Path) -> None:
    database = migrated(tmp_path / "store.db", "before_job_owners.sql")
    store = JobStore(database, max_jobs=5, max_stored_bytes=10_000, deadline_seconds=LONG)
    job, is_new = store.create(new_job(idempotency_key="key", content_hash="a"))
    assert (job.id, is_new, job.key_id) == ("job_" + "0" * 32, False, None)
    assert [row.result for row in store.inputs(job.id, state="completed", after=-1, limit=9)] == ['{"results":[]}']
    queue = InputQueue(database, worker_id="one", storage_id="here", lease_seconds=LONG, max_attempts=3)
    assert taken(queue).index == 1
    database.close()


def test_a_store_of_the_release_before_gets_the_tables_and_keeps_what_it_holds(tmp_path: Path) -> None:
    database = migrated(tmp_path / "store.db", "before_jobs.sql")
    assert [label.name for label in VocabularyStore(database, keep_versions=5).load("pets").labels] == [
        "a cat", "ein Hündchen",
    ]  # fmt: skip
    assert RouteStore(database, configured="demo").load().versions == {"demo": 2}
    store = JobStore(database, max_jobs=5, max_stored_bytes=10_000, deadline_seconds=LONG)
    assert store.load(store.create(new_job())[0].id).num_inputs == 3
    database.close()
