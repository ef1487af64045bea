"""The store on SQLite and on PostgreSQL: versions, conflicts, what survives."""

import hashlib
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from serve.errors import ConfigurationError, StaleVersion, StoreUnavailable, UnknownExample, UnknownVocabulary
from serve.store.database import SQLITE_PRAGMAS, Database, sqlite_url
from serve.store.schema import metadata
from serve.vocabularies.labels import Example, Label
from serve.vocabularies.store import VocabularyStore
from serve.vocabularies.vocabulary import Vocabulary
from tests.running_server import ROOT

PETS = Vocabulary(
    name="pets",
    version=0,
    labels=(
        Label(label_id="a1", name="a cat / 100% 🐈", synonyms=("kitten",), negatives=("a tiger",)),
        Label(label_id="b2", name="ein Hündchen"),
    ),
    templates=("a video of {}",),
    phrase_rule="mean",
    background=("nothing",),
    description="pets",
    metadata={"owner": {"team": 3}},
    author="ada",
    note="first",
)


def test_a_vocabulary_comes_back_as_it_was(store: VocabularyStore) -> None:
    stored = store.commit(PETS, expected=None)
    assert (
        store.load("pets") == store.load("pets", 1) == stored == replace(PETS, version=1, created_at=stored.created_at)
    )
    assert store.latest_versions() == {"pets": 1}


def test_a_change_names_the_version_it_follows(store: VocabularyStore) -> None:
    store.commit(PETS, expected=None)
    with pytest.raises(StaleVersion):
        store.commit(PETS, expected=None)
    assert store.commit(replace(PETS, note="second"), expected=1).version == 2
    with pytest.raises(StaleVersion) as caught:
        store.commit(replace(PETS, note="late"), expected=1)
    assert caught.value.details["latest"] == 2
    assert [item.note for item in store.versions("pets", before=None, limit=9)] == ["second", "first"]
    with pytest.raises(UnknownVocabulary):
        store.commit(replace(PETS, name="other"), expected=1)


def test_old_versions_go_and_numbers_are_never_used_twice(store: VocabularyStore) -> None:
    store.commit(PETS, expected=None)
    for version in range(1, 8):
        store.commit(PETS, expected=version)
    kept = [item.version for item in store.versions("pets", before=None, limit=99)]
    assert kept == [8, 7, 6, 5, 4]
    assert [item.version for item in store.versions("pets", before=6, limit=1)] == [5]
    with pytest.raises(UnknownVocabulary, match="version 3 of vocabulary 'pets' does not exist"):
        store.load("pets", 3)
    store.delete("pets", expected=8)
    assert store.latest_versions() == {}
    for ask in (lambda: store.load("pets"), lambda: store.versions("pets", before=None, limit=1)):
        with pytest.raises(UnknownVocabulary):
            ask()
    assert store.commit(PETS, expected=None).version == 9


def test_of_concurrent_edits_exactly_one_wins(store: VocabularyStore) -> None:
    store.commit(PETS, expected=None)
    barrier, outcomes = threading.Barrier(8), []

    def edit(number: int) -> None:
        barrier.wait()
        try:
            outcomes.append(store.commit(replace(PETS, note=str(number)), expected=1).note)
        except StaleVersion:
            outcomes.append(None)

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [note for note in outcomes if note is not None]
    assert len(outcomes) == 8
    assert len(winners) == 1
    assert store.load("pets").note == winners[0]


def test_writers_that_follow_each_other_lose_nothing(store: VocabularyStore) -> None:
    """Each of four threads adds ten labels, trying again when it was too late."""
    store.commit(replace(PETS, labels=()), expected=None)

    def add(thread: int) -> None:
        for number in range(10):
            while True:
                found = store.load("pets")
                label = Label(label_id=f"{thread}-{number}", name=f"{thread} {number}")
                try:
                    store.commit(replace(found, labels=(*found.labels, label)), expected=found.version)
                    break
                except StaleVersion:
                    continue

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({label.label_id for label in store.load("pets").labels}) == 40
    assert store.load("pets").version == 41


def test_clips_are_kept_once_and_go_with_the_last_version_that_uses_them(
    store: VocabularyStore, tmp_path: Path
) -> None:
    def with_clip(name: str, body: bytes) -> tuple[Vocabulary, dict[str, Path]]:
        path = tmp_path / hashlib.sha256(body).hexdigest()
        path.write_bytes(body)
        example = Example(
            example_id="e1", sha256=path.name, filename="a / 🐈.mp4", num_bytes=len(body), created_at="2026-11-23"
        )
        labels = (replace(PETS.labels[0], examples=(example,), threshold=0.25), PETS.labels[1])
        return replace(PETS, name=name, labels=labels), {path.name: path}

    pets, clips = with_clip("pets", b"one")
    (one,) = clips
    assert store.commit(pets, expected=None, new_clips=clips) == store.load("pets")
    more, same = with_clip("more", b"one")
    store.commit(more, expected=None, new_clips=same)
    assert store.clip(one) == b"one"
    for expected in range(1, 6):  # the version with the clip is given up with the last of these
        store.commit(PETS, expected=expected)
        assert store.clip(one) == b"one"
    store.commit(PETS, expected=6)
    assert store.clip(one) == b"one", "the other vocabulary uses it"
    store.delete("more", expected=1)
    with pytest.raises(UnknownExample):
        store.clip(one)
    store.commit(pets, expected=7, new_clips=clips)
    assert store.clip(one) == b"one"


def test_tables_and_migrations_agree(database: Database) -> None:
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.migrate()  # nothing to do the second time


def test_every_sqlite_connection_is_durable(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "store.db"))
    with database.reading() as one, database.reading() as other:
        for connection in (one, other):
            for name, wanted in SQLITE_PRAGMAS.items():
                assert connection.execute(sa.text(f"PRAGMA {name}")).scalar() == wanted
    database.close()


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "store.db"))
    database.migrate()
    with database.writing() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="another release"):
        database.migrate()
    database.close()


def test_a_database_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    for url in ("postgresql://user@127.0.0.1:1/none", f"sqlite:////{tmp_path}/no/folder/store.db"):
        database = Database(url)
        with pytest.raises(StoreUnavailable):
            database.migrate()
        database.close()
    for url in ("mysql://localhost/x", "not an address"):
        with pytest.raises(ConfigurationError):
            Database(url)


WRITER = """
import sys
from dataclasses import replace
from serve.store.database import Database, sqlite_url
from serve.vocabularies.store import VocabularyStore
from tests.serve.vocabularies.test_store import PETS
from pathlib import Path
database = Database(sqlite_url(Path(sys.argv[1])))
database.migrate()
store = VocabularyStore(database, keep_versions=10_000)
version = store.latest_versions().get("pets")
while True:
    version = store.commit(PETS, expected=version).version
    print(version, flush=True)
"""


def test_a_killed_writer_loses_no_acknowledged_version(tmp_path: Path) -> None:
    acknowledged = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "store.db")], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(20):
            acknowledged = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        process.wait()
        process.stdout.close()
        database = Database(sqlite_url(tmp_path / "store.db"))
        store = VocabularyStore(database, keep_versions=10_000)
        found = [item.version for item in store.versions("pets", before=None, limit=10_000)]
        assert found[0] >= acknowledged
        assert found == list(range(found[0], 0, -1)), "every version up to it is there and whole"
        assert store.load("pets", acknowledged).labels == PETS.labels
        database.close()
