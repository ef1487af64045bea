"""Vocabularies through a real server: changing them while it classifies, conditions, files, limits, restart."""

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running_server import ROOT, RunningServer, running_server
from tests.shared_data import LABELS, needs_shared
from tests.tolerances import tolerance
from tests.waiting import PATIENCE_SECONDS

TWO = ["a person in red walking to the left", "a person in red walking to the right"]
NEW = {"If-None-Match": "*"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def name() -> str:
    """A name that is not in use."""
    return f"test-{secrets.token_hex(4)}"


def put(http: httpx.Client, name: str, labels: list[Any], headers: dict[str, str], **fields: Any) -> httpx.Response:
    return http.put(f"/v1/vocabularies/{name}", json={"labels": labels, **fields}, headers=headers)


def patch(http: httpx.Client, name: str, version: int, **changes: Any) -> httpx.Response:
    return http.patch(f"/v1/vocabularies/{name}", json=changes, headers={"If-Match": f'"{version}"'})


def classify(http: httpx.Client, path: Path, **options: Any) -> dict[str, Any]:
    with path.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_the_next_request_uses_a_change_and_old_versions_stay(http: httpx.Client, name: str, demo_clip: Path) -> None:
    made = put(http, name, TWO[1:], NEW)
    assert (made.status_code, made.headers["etag"], made.json()["is_current"]) == (200, '"1"', True)
    assert [item["label"] for item in classify(http, demo_clip, vocabulary=name)["results"]] == TWO[1:]
    changed = patch(http, name, 1, add=TWO[:1])
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    answer = classify(http, demo_clip, vocabulary=name)
    assert answer["vocabulary"] == f"{name}@2"
    assert answer["results"][0]["label"] == TWO[0]
    old = classify(http, demo_clip, vocabulary=f"{name}@1")
    assert (old["vocabulary"], len(old["results"])) == (f"{name}@1", 1)
    rolled = http.post(f"/v1/vocabularies/{name}:rollback", json={"version": 1}, headers={"If-Match": '"2"'}).json()
    assert (rolled["version"], rolled["note"], rolled["num_labels"]) == (3, "rolled back to 1", 1)
    found = http.get(f"/v1/vocabularies/{name}:diff", params={"from": 2, "to": 3}).json()
    assert (found["removed"], found["added"]) == ([TWO[0]], [])


def engine_of(http: httpx.Client) -> str:
    """The engine of the model that answers."""
    (loaded,) = [item["engine"] for item in http.get("/v1/models").json()["models"] if item["loaded"]]
    return str(loaded)


def test_synonyms_negatives_and_background_score(http: httpx.Client, name: str, demo_clip: Path) -> None:
    alone = {item["label"]: item for item in classify(http, demo_clip, candidate_labels=[*TWO, "bowing"])["results"]}
    put(http, name, [{"name": "left", "synonyms": TWO[:1]}, {"name": "right", "synonyms": TWO[1:]}], NEW)
    best = {item["label"]: item for item in classify(http, demo_clip, vocabulary=name)["results"]}
    dtype = "bfloat16" if engine_of(http).endswith("bf16") else "float32"
    assert best["left"]["logit"] == pytest.approx(alone[TWO[0]]["logit"], abs=tolerance(100.0, dtype=dtype))
    assert best["left"]["score"] > best["right"]["score"]
    patch(http, name, 1, phrase_rule="mean")
    mean = {item["label"]: item for item in classify(http, demo_clip, vocabulary=name)["results"]}
    assert mean["left"]["logit"] < best["left"]["logit"]
    patch(http, name, 2, remove=["left"], background=TWO[:1])
    answer = classify(http, demo_clip, vocabulary=name)
    assert answer["none_of_these"]["rejected"] is True
    assert answer["none_of_these"]["score"] > 0.5
    assert [item["accepted"] for item in answer["results"]] == [False]
    total = answer["none_of_these"]["score"] + sum(item["score"] for item in answer["results"])
    assert total == pytest.approx(1, abs=1e-5)


def test_changes_need_a_condition_that_holds(http: httpx.Client, name: str) -> None:
    assert put(http, name, TWO, {}).status_code == 428
    assert put(http, name, TWO, {"If-Match": '"1"'}).status_code == 404
    assert put(http, name, TWO, NEW).status_code == 200
    assert put(http, name, TWO, NEW).status_code == 412
    url = f"/v1/vocabularies/{name}"
    for send in (
        lambda headers: http.patch(url, json={"add": ["x"]}, headers=headers),
        lambda headers: http.post(f"{url}:rollback", json={"version": 1}, headers=headers),
        lambda headers: http.delete(url, headers=headers),
    ):
        assert send({}).status_code == 428
        stale = send({"If-Match": '"7"'})
        assert (stale.status_code, stale.json()["type"]) == (412, "/problems/stale-version")
        assert send({"If-Match": "W/1"}).status_code == 412
    found = http.get(url)
    assert (found.headers["etag"], found.json()["latest"]) == ('"1"', 1)
    again = http.get(url, headers={"If-None-Match": '"1"'})  # its warnings are of the models that answer now
    assert (again.status_code, again.headers["cache-control"]) == (200, "no-store")
    assert http.patch(url, json={"add": ["x"]}, headers={"If-Match": "*"}).json()["version"] == 2
    assert http.delete(url, headers={"If-Match": '"2"'}).status_code == 204
    assert http.get(url).status_code == 404
    assert put(http, name, TWO, NEW).json()["version"] == 3, "a number never means two things"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"labels": []}, 422),
        ({"labels": ["cat", "cat\u200b"]}, 422),
        ({"labels": ["cat"], "templates": ["no place"]}, 422),
        ({"labels": ["word " * 90]}, 422),
        ({"labels": ["cat"], "lables": []}, 422),
        ({"labels": "cat"}, 422),
    ],
    ids=["none", "twice", "template", "too long for the model", "unknown field", "no list"],
)
def test_nothing_is_half_applied(http: httpx.Client, name: str, fields: dict[str, Any], status: int) -> None:
    put(http, name, TWO, NEW)
    refused = http.put(f"/v1/vocabularies/{name}", json=fields, headers={"If-Match": '"1"'})
    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/problem+json"
    found = http.get(f"/v1/vocabularies/{name}").json()
    assert (found["version"], [label["name"] for label in found["labels"]]) == (1, TWO)


@pytest.mark.parametrize("bad", ["UPPER", "a b", "x" * 65, "ä"])
def test_names_are_plain(http: httpx.Client, bad: str) -> None:
    assert put(http, bad, TWO, NEW).status_code == 422


def test_bodies_are_counted_and_typed(http: httpx.Client, name: str) -> None:
    url = f"/v1/vocabularies/{name}"
    assert http.put(url, content=b"cat", headers={**NEW, "Content-Type": "application/xml"}).status_code == 415
    assert http.put(url, content=b"x" * (33 * 2**20), headers={**NEW, "Content-Type": "text/plain"}).status_code == 413
    assert http.put(url, content=b"{", headers={**NEW, **JSON}).status_code == 422
    assert http.get(url).status_code == 404


def test_files_of_every_kind_go_in_and_out(http: httpx.Client, name: str) -> None:
    csv = b"name,synonyms,negatives\nApplyLipstick,make-up|lips,\nyawning,,eating\n"
    headers = {**NEW, "Content-Type": "text/csv; charset=utf-8"}
    made = http.put(f"/v1/vocabularies/{name}?split_names=true", content=csv, headers=headers)
    assert made.json()["num_labels"] == 2
    whole = http.get(f"/v1/vocabularies/{name}:export").json()
    assert [label["name"] for label in whole["labels"]] == ["apply lipstick", "yawning"]
    assert http.get(f"/v1/vocabularies/{name}:export", params={"format": "txt"}).text == "apply lipstick\nyawning\n"
    again = http.put(f"/v1/vocabularies/{name}", json=whole, headers={"If-Match": '"1"'})
    assert again.json()["version"] == 2
    diff = http.get(f"/v1/vocabularies/{name}:diff", params={"from": 1, "to": 2}).json()
    assert not (diff["added"] or diff["removed"] or diff["changed"] or diff["moved"] or diff["fields"])


@needs_shared
@pytest.mark.parametrize("file", ["kinetics700", "ucf101", "hmdb51"])
def test_lists_of_data_sets_go_in_as_they_are(http: httpx.Client, name: str, file: str) -> None:
    body = (LABELS / f"{file}.txt").read_bytes()
    made = http.put(f"/v1/vocabularies/{name}", content=body, headers={**NEW, "Content-Type": "text/plain"})
    assert made.json()["num_labels"] == len(body.splitlines())


def test_lists_come_in_pages(http: httpx.Client, name: str) -> None:
    for number in range(3):
        put(http, f"{name}-{number}", TWO, NEW)
    found, token = [], None
    while True:
        query = {"page_size": 2, **({"page_token": token} if token else {})}
        page = http.get("/v1/vocabularies", params=query).json()
        found += [item["name"] for item in page["vocabularies"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert found == sorted(set(found))
    assert {f"{name}-{number}" for number in range(3)} <= set(found)
    for token in ("x", "bm9uc2Vuc2U", "eyJhIjoxfQ"):
        assert http.get("/v1/vocabularies", params={"page_token": token}).status_code == 422
    for version in (1, 2):
        patch(http, f"{name}-0", version, add=[f"label {version}"])
    first = http.get(f"/v1/vocabularies/{name}-0/versions", params={"page_size": 2}).json()
    assert [item["version"] for item in first["versions"]] == [3, 2]
    query = {"page_token": first["next_page_token"]}
    rest = http.get(f"/v1/vocabularies/{name}-0/versions", params=query).json()
    assert ([item["version"] for item in rest["versions"]], rest["next_page_token"]) == ([1], None)
    assert http.get(f"/v1/vocabularies/{name}-1/versions", params=query).status_code == 422


def test_a_change_that_takes_long_is_accepted_and_progress_is_seen(
    http: httpx.Client, name: str, demo_clip: Path
) -> None:
    labels = [f"a person in red doing thing number {number}" for number in range(4000)]
    made = put(http, name, labels, {**NEW, "Prefer": "respond-async, wait=0"})
    assert (made.status_code, made.headers["location"]) == (202, f"/v1/vocabularies/{name}")
    assert made.json()["is_current"] is False
    listed = {
        item["name"]: item for item in http.get("/v1/vocabularies", params={"page_size": 1000}).json()["vocabularies"]
    }
    shown = http.get(f"/v1/vocabularies/{name}").json()
    for facts in (listed[name], shown):
        assert (facts["latest"], facts["num_labels"]) == (1, 4000)
        assert facts["current"] == 1 or facts["encoding"]["version"] == 1
    early = http.post("/v1/classify", files={"video": demo_clip.read_bytes()}, data={"vocabulary": name})
    assert early.status_code in (200, 503)  # 200 on a machine that encoded 4,000 prompts meanwhile
    assert "retry-after" in early.headers or early.json()["vocabulary"] == f"{name}@1"
    seen = http.patch(
        f"/v1/vocabularies/{name}", json={"add": ["one more"]}, headers={"If-Match": '"1"', "Prefer": "wait=120"}
    ).json()
    assert (seen["is_current"], seen["current"], seen["num_labels"]) == (True, 2, 4001)


def test_a_killed_server_starts_with_everything_it_acknowledged(tmp_path: Path, demo_clip: Path) -> None:
    answers = []
    for start in range(2):
        with (
            running_server(tmp_path) as server,
            httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http,
        ):
            if start == 0:
                put(http, "mine", TWO, NEW)
                patch(http, "mine", 1, add=["bowing"])
            assert http.get("/v1/vocabularies/mine").json()["version"] == 2
            answers.append(classify(http, demo_clip, vocabulary="mine", top_k=3)["results"])
            server.process.kill()  # not even a chance to say goodbye
    assert answers[0] == answers[1]


def run(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("actserve"), "vocab", *arguments, "--server", server.address]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_command_line_does_all_of_it(demo_server: RunningServer, name: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("cat\ndog\n")
    assert "2 labels, in use" in run(demo_server, "put", name, str(file), "--author", "ada").stdout
    assert "3 labels" in run(demo_server, "add", name, "a horse / 100%", "--synonym", "pony").stdout
    assert "2 labels" in run(demo_server, "remove", name, "cat").stdout
    assert run(demo_server, "rename", name, "dog", "puppy").returncode == 0
    assert run(demo_server, "show", name).stdout.splitlines() == ["puppy", "a horse / 100%"]
    assert run(demo_server, "diff", name, "3", "4").stdout.strip() == "~ dog -> puppy"
    history = run(demo_server, "history", name).stdout.splitlines()
    assert [line.split("\t")[0] for line in history] == [f"{name}@{version}" for version in (4, 3, 2, 1)]
    assert "ada" in history[-1]
    curl = run(demo_server, "rollback", name, "1", "--print-curl").stdout
    assert run(demo_server, "history", name).stdout.splitlines() == history, "showing a request sends nothing"
    sent = subprocess.run(["bash", "-c", curl.replace("curl", "curl -sf", 1)], capture_output=True, text=True)
    assert json.loads(sent.stdout)["note"] == "rolled back to 1"
    assert run(demo_server, "show", name).stdout.split() == ["cat", "dog"]
    assert run(demo_server, "delete", name, "--yes").returncode == 0
    missing = run(demo_server, "show", name)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "there is no vocabulary" in missing.stderr


def test_authors_of_any_script_stand_in_the_history(http: httpx.Client, name: str) -> None:
    put(http, name, TWO, {**NEW, "X-Author": "Zoë 🐈".encode()})  # type: ignore[dict-item]
    assert http.get(f"/v1/vocabularies/{name}").json()["author"] == "Zoë 🐈"
    assert http.get("/v1/limits").json()["vocabularies"]["max_labels"] == 100_000


def test_labels_that_a_model_merges_are_taken_and_reported(http: httpx.Client, name: str, demo_clip: Path) -> None:
    labels = ["Running", "running", "100m", "walking", "a 100 m run"]
    made = put(http, name, [*labels, {"name": "jogging", "synonyms": ["WALKING"]}], NEW)
    assert made.status_code == 200, made.text
    found = http.get(f"/v1/vocabularies/{name}").json()
    assert names_of(found) == [*labels, "jogging"]
    assert (found["problems"], found["num_warnings"]) == ([], 2)
    merged = [(item["kind"], item["model"], item["vocabulary"], item["labels"]) for item in found["warnings"]]
    assert merged == [
        ("merged_labels", "demo@1", f"{name}@1", ["Running", "running"]),
        ("merged_labels", "demo@1", f"{name}@1", ["walking", "jogging"]),
    ]
    assert "'Running', 'running'" in found["warnings"][0]["detail"]
    activated = http.post("/v1/models/demo:activate").json()
    assert [item["labels"] for item in activated["warnings"] if item["vocabulary"] == f"{name}@1"] == [
        ["Running", "running"],
        ["walking", "jogging"],
    ]
    answer = classify(http, demo_clip, candidate_labels=["Bowing", "bowing", "waving", "&nbsp;x"])
    assert [(item["kind"], item["vocabulary"], item["labels"]) for item in answer["vocabulary_warnings"]] == [
        ("merged_labels", None, ["Bowing", "bowing"])
    ]
    assert classify(http, demo_clip, candidate_labels=["bowing", "waving"])["vocabulary_warnings"] == []


def names_of(vocabulary: dict[str, Any]) -> list[str]:
    return [label["name"] for label in vocabulary["labels"]]


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("2", 'write If-Match: "2"'),
        ("'17'", 'write If-Match: "17"'),
        ('W/"5"', 'write If-Match: "5"'),
        ("abc", "in double quotes, or *"),
        ('"1", "2"', "in double quotes, or *"),
        ("99999999999", "in double quotes, or *"),
    ],
)
def test_a_wrong_if_match_is_answered_with_the_callers_own_value(
    http: httpx.Client, name: str, given: str, advice: str
) -> None:
    put(http, name, TWO, NEW)
    answer = http.patch(f"/v1/vocabularies/{name}", json={"add": ["x"]}, headers={"If-Match": given})
    assert answer.status_code == 412
    assert answer.json()["detail"].startswith(f"If-Match: {given} is not an ETag of this server")
    assert answer.json()["detail"].endswith(advice)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("走路，跑步", ["走路", "跑步"]),
        ('"a, b"; c', ["a, b", "c"]),
        ("lifting it, then dropping it\nwaving", ["lifting it, then dropping it", "waving"]),
        ('["a, b", "c"]', ["a, b", "c"]),
        ("\ufeffwaving\n", ["waving"]),
    ],
    ids=["full-width", "quotes", "lines", "JSON", "mark"],
)
def test_documents_of_labels_are_read_by_the_grammar(
    http: httpx.Client, name: str, body: str, names: list[str]
) -> None:
    headers = {**NEW, "Content-Type": "text/plain"}
    assert http.put(f"/v1/vocabularies/{name}", content=body.encode(), headers=headers).status_code == 200
    assert names_of(http.get(f"/v1/vocabularies/{name}").json()) == names
    text = http.get(f"/v1/vocabularies/{name}:export", params={"format": "txt"}).text
    replacing = {"Content-Type": "text/plain", "If-Match": '"1"'}
    again = http.put(f"/v1/vocabularies/{name}", content=text.encode(), headers=replacing)
    assert (again.status_code, names_of(http.get(f"/v1/vocabularies/{name}").json())) == (200, names)
    refused = http.put(f"/v1/vocabularies/{name}-2", content=b'a, "b', headers=headers)
    assert (refused.status_code, "line 1, character 4" in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["brushing someone's hair", "walking", "brushing someone\u2019s hair"], "labels 0 and 2 are the same"),
        (["walking", "\u3164"], "label 1 is empty"),
        (["walking", "walk\u200bing"], "are the same: 'walking' and 'walk\\u200bing'"),
    ],
    ids=["apostrophe", "filler", "zero width"],
)
def test_candidate_labels_that_would_share_a_score_are_refused_by_name(
    http: httpx.Client, demo_clip: Path, labels: list[str], words: str
) -> None:
    options = {"options": json.dumps({"candidate_labels": labels})}
    answer = http.post("/v1/classify", files={"video": demo_clip.read_bytes()}, data=options)
    assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.text


def test_a_negative_phrase_that_is_another_label_is_reported(http: httpx.Client, name: str) -> None:
    rivals = [{"name": "a dog", "negatives": ["a  cat", "a bird"]}, {"name": "a cat", "synonyms": ["kitten"]}]
    put(http, name, rivals, NEW).raise_for_status()
    found = http.get(f"/v1/vocabularies/{name}").json()
    warning = next(item for item in found["warnings"] if item["kind"] == "label_as_negative")
    assert (warning["model"], warning["labels"]) == (None, ["a dog", "a cat"])
    assert sum(item["kind"] == "label_as_negative" for item in found["warnings"]) == 1
    assert found["problems"] == []
