"""Vocabularies that an older release stored stay readable, say what is wrong with them, and can be repaired."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.store.database import Database, sqlite_url
from serve.vocabularies.store import VocabularyStore
from tests.running_server import ROOT, running_server
from tests.waiting import PATIENCE_SECONDS

DUMP = ROOT / "tests" / "golden" / "store" / "faulty_vocabularies.sql"


def restore(path: Path) -> Path:
    """The store of the older release as a SQLite file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(DUMP.read_text(encoding="utf-8"))
    connection.close()
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VocabularyStore]:
    database = Database(sqlite_url(restore(tmp_path / "store.db")))
    database.migrate()
    yield VocabularyStore(database, keep_versions=50)
    database.close()


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that was started on such a store."""
    folder = tmp_path_factory.mktemp("old")
    restore(folder / "data" / "actserve.db")
    with running_server(folder) as server, httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
        yield client


def problems_of(http: httpx.Client, name: str) -> list[dict[str, Any]]:
    found = http.get(f"/v1/vocabularies/{name}")
    assert found.status_code == 200, found.text
    problems: list[dict[str, Any]] = found.json()["problems"]
    assert found.json()["num_problems"] == len(problems)
    return problems


def test_numbers_that_are_not_finite_are_read_as_text(store: VocabularyStore) -> None:
    found = store.load("not-finite", 1)
    assert found.metadata == {"source": {"weights": [0.5, "Infinity", "-Infinity"]}, "share": "Infinity"}
    places = [fault.places[0] for fault in found.faults]
    assert places == ["metadata.source.weights[1]", "metadata.source.weights[2]", "metadata.share"]
    again = store.commit(found, expected=2)
    assert (again.metadata, again.faults) == (found.metadata, ())
    assert store.load("not-finite") == again


def test_a_fit_without_a_finite_figure_still_applies(store: VocabularyStore) -> None:
    found = store.load("unreadable-fit")
    assert found.acceptance is not None
    assert found.acceptance.fitted is not None
    assert (found.acceptance.threshold, found.acceptance.fitted.auroc) == (0.5, None)
    assert [fault.places for fault in found.faults] == [("acceptance.fitted.auroc",)]


def test_an_acceptance_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    path = restore(tmp_path / "store.db")
    with sqlite3.connect(path) as connection:
        connection.execute("update vocabulary_versions set document = replace(document, '0.05', '1e999')")
    connection.close()
    database = Database(sqlite_url(path))
    found = VocabularyStore(database, keep_versions=50).load("unreadable-fit")
    database.close()
    assert found.acceptance is None
    assert found.faults[-1].places == ("acceptance.fitted.false_accept_rate",)


def test_labels_that_are_the_same_or_show_nothing_are_listed(http: httpx.Client) -> None:
    problems = problems_of(http, "same-labels")
    assert [(problem["kind"], problem["places"]) for problem in problems] == [
        ("empty_label", ["labels[5].name"]),
        ("empty_label", ["labels[6].name"]),
        ("same_labels", ["labels[0].name", "labels[1].name"]),
        ("same_labels", ["labels[1].synonyms[0]", "labels[4].name"]),
        ("same_labels", ["labels[2].name", "labels[3].name", "background[1]"]),
    ]


@pytest.mark.parametrize("name", ["same-labels", "not-finite", "not-finite@1", "unreadable-fit"])
def test_every_way_to_read_answers(http: httpx.Client, name: str) -> None:
    bare = name.partition("@")[0]
    urls = [name, f"{bare}/versions", f"{name}:export", f"{name}:export?format=csv", f"{name}:export?format=txt"]
    for url in urls:
        assert http.get(f"/v1/vocabularies/{url}").status_code == 200, url
    assert http.get(f"/v1/vocabularies/{bare}:diff", params={"from": 1, "to": 1}).status_code == 200
    exported = http.get(f"/v1/vocabularies/{name}:export").text
    json.loads(exported, parse_constant=pytest.fail)
    json.loads(http.get(f"/v1/vocabularies/{name}").text, parse_constant=pytest.fail)
    assert bare in {item["name"] for item in http.get("/v1/vocabularies").json()["vocabularies"]}


def test_it_classifies_and_is_repaired_step_by_step(http: httpx.Client, demo_clip: Path) -> None:
    before = len(problems_of(http, "same-labels"))
    video = {"video": demo_clip.read_bytes()}
    answer = http.post("/v1/classify", files=video, data={"vocabulary": "same-labels", "top_k": "9"})
    assert (answer.status_code, len(answer.json()["results"])) == (200, 7)
    for changes in (
        {"add": ["brushing someone\u02bcs hair"]},
        {"add": ["\u2060"]},
        {"update": [{"name": "walking", "synonyms": ["salt &#x26; pepper"]}]},
    ):
        refused = http.patch("/v1/vocabularies/same-labels", json=changes, headers={"If-Match": "*"})
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/invalid-vocabulary")
    labels = {label["name"]: label["label_id"] for label in http.get("/v1/vocabularies/same-labels").json()["labels"]}
    for changes in (
        {"add": ["another label"]},
        {"remove": [labels["\u3164"]]},
        {"rename": [{"label": "\u200b", "to": "bowing"}]},
        {"remove": ["brushing someone\u2019s hair"]},  # by its exact name, though another has the same normal form
    ):
        changed = http.patch("/v1/vocabularies/same-labels", json=changes, headers={"If-Match": "*"})
        assert changed.status_code == 200, changed.text
    assert len(problems_of(http, "same-labels")) == before - 4
    rolled = http.post("/v1/vocabularies/not-finite:rollback", json={"version": 1}, headers={"If-Match": "*"})
    assert rolled.status_code == 200
    assert problems_of(http, "not-finite") == []
    assert http.get("/v1/vocabularies/not-finite").json()["metadata"]["share"] == "Infinity"
