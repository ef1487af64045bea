"""Corrected clips through a real server: kept once it says so, erased for good, and nothing of them logged."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.feedback.index import clip_path, read_index
from tests.running_server import ROOT, RunningServer, running_server
from tests.synthetic_video import make_audio_only, make_video
from tests.waiting import PATIENCE_SECONDS

LABEL = "a person in red walking to the left"
SECRET = "only the operator may read this"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps them."""
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that keeps feedback, twelve clips at most."""
    variables = {
        "SERVE_FEEDBACK__ENABLED": "true",
        "SERVE_FEEDBACK__DIR": str(folder),
        "SERVE_FEEDBACK__MAX_CLIPS": "12",
        "SERVE_LIMITS__MAX_UPLOAD_BYTES": "2000000",
    }
    with running_server(tmp_path_factory.mktemp("cache"), **variables) as running:
        yield running


@pytest.fixture
def client(server: RunningServer, folder: Path) -> Iterator[httpx.Client]:
    """A client of that server, whose folder is empty."""
    with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
        for row in client.get("/v1/feedback").json()["feedback"]:
            client.delete(f"/v1/feedback/{row['id']}").raise_for_status()
        assert not list((folder / "clips").iterdir())
        yield client


def send(client: httpx.Client, path: Path, *, filename: str = "clip.mp4", **fields: str) -> httpx.Response:
    return client.post("/v1/feedback", files={"video": (filename, path.read_bytes())}, data=fields)


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("/problems/")


def test_a_correction_is_kept_with_all_that_was_said(client: httpx.Client, folder: Path, demo_clip: Path) -> None:
    fields = {
        "label": f" {LABEL.upper()} ",
        "vocabulary": "demo",
        "predicted": "clapping",
        "request_id": "r-1",
        "note": SECRET,
    }
    response = send(client, demo_clip, filename="../../etc/cron.d/evil.sh", **fields)
    assert response.status_code == 201, response.text
    kept = response.json()
    assert (kept["label"], kept["is_new_label"], kept["is_duplicate"]) == (LABEL, False, False)
    assert (kept["vocabulary"], kept["predicted"]) == ("demo@1", "clapping")
    assert (kept["request_id"], kept["note"]) == ("r-1", SECRET)
    ((row,), _) = read_index(folder)
    assert row.feedback_id == kept["id"]
    assert row.file == f"{kept['id']}.mp4"
    assert clip_path(folder, row).read_bytes() == demo_clip.read_bytes()
    assert {path.name for path in (folder / "clips").iterdir()} == {row.file}


def test_a_new_label_is_taken_and_reported(client: httpx.Client, demo_clip: Path) -> None:
    assert send(client, demo_clip, label="moonwalking", vocabulary="demo@1").json()["is_new_label"] is True
    assert send(client, demo_clip, label="robot dance").json()["is_new_label"] is None


def test_the_same_correction_twice_is_one(client: httpx.Client, demo_clip: Path) -> None:
    first, again = (send(client, demo_clip, label=label) for label in ("moonwalking", "Moonwalking "))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["is_duplicate"]
    assert client.get("/v1/feedback").json()["num_clips"] == 1


def test_the_suffix_comes_from_the_content(client: httpx.Client, folder: Path, tmp_path: Path) -> None:
    for name in ("a.mkv", "b.avi"):
        send(client, make_video(tmp_path / name), filename="a.exe", label=name).raise_for_status()
    assert sorted(row.file.rsplit(".")[-1] for row in read_index(folder)[0]) == ["avi", "mkv"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (422, "invalid-option")),
        ({"label": "  "}, (422, "invalid-vocabulary")),
        ({"label": "a\x00b"}, (422, "invalid-option")),
        ({"label": "walk " * 200}, (422, "invalid-vocabulary")),
        ({"label": "a", "predicted": "b\u202ec"}, (422, "invalid-vocabulary")),
        ({"label": "a", "vocabulary": "nosuch"}, (404, "unknown-vocabulary")),
        ({"label": "a", "request_id": "../x"}, (422, "invalid-option")),
        ({"label": "a", "note": "x" * 2001}, (422, "invalid-option")),
        ({"options": '{"label": "a", "note": "\\ud800"}'}, (422, "invalid-option")),
        ({"label": "a", "file": "/etc/passwd"}, (422, "invalid-option")),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_kept_is_refused(
    client: httpx.Client, folder: Path, demo_clip: Path, fields: dict[str, str], expected: tuple[int, str]
) -> None:
    assert problem(send(client, demo_clip, **fields)) == expected
    assert not list((folder / "clips").iterdir())


def test_no_video_is_kept_that_training_could_not_read(client: httpx.Client, folder: Path, tmp_path: Path) -> None:
    page, cut, large = tmp_path / "page", tmp_path / "cut", tmp_path / "large"
    page.write_text("<!doctype html><p>not found</p>")
    cut.write_bytes(make_video(tmp_path / "whole.mp4").read_bytes()[:700])
    large.write_bytes(bytes(2_000_001))
    sound = make_audio_only(tmp_path / "sound.mp4")
    found = [problem(send(client, path, label="a")) for path in (page, cut, large, sound)]
    assert found[0] == found[3] == (415, "unsupported-media")
    assert found[1] == (422, "undecodable-video")
    assert found[2] == (413, "upload-too-large")
    assert not list((folder / "clips").iterdir())


def test_a_full_folder_says_so_and_has_room_after_an_erasure(client: httpx.Client, demo_clip: Path) -> None:
    ids = [send(client, demo_clip, label=f"label {number}").json()["id"] for number in range(12)]
    assert problem(send(client, demo_clip, label="one more")) == (507, "feedback-full")
    assert send(client, demo_clip, label="label 3").status_code == 200  # kept before: no room is needed
    assert client.delete(f"/v1/feedback/{ids[0]}").status_code == 204
    assert send(client, demo_clip, label="one more").status_code == 201


def test_rows_come_by_pages_and_are_counted(client: httpx.Client, demo_clip: Path, tmp_path: Path) -> None:
    clips = [demo_clip, make_video(tmp_path / "a.mp4"), make_video(tmp_path / "b.mp4", num_frames=5)]
    sent = [send(client, path, label=label).json()["id"] for label in ("waving", "bowing") for path in clips]
    page = client.get("/v1/feedback", params={"page_size": 4}).json()
    assert (page["num_clips"], page["max_clips"]) == (6, 12)
    assert page["labels"] == {"waving": 3, "bowing": 3}
    assert page["num_bytes"] == 2 * sum(path.stat().st_size for path in clips)
    client.delete(f"/v1/feedback/{page['feedback'][-1]['id']}").raise_for_status()  # the place the token stands at
    rest = client.get("/v1/feedback", params={"page_token": page["next_page_token"]}).json()
    assert [row["id"] for row in page["feedback"] + rest["feedback"]] == sent[::-1]
    assert rest["next_page_token"] is None
    assert problem(client.get("/v1/feedback", params={"page_token": "x"})) == (422, "invalid-option")


def test_what_is_erased_is_gone_from_the_disk(client: httpx.Client, folder: Path, demo_clip: Path) -> None:
    kept = send(client, demo_clip, label="moonwalking", note=SECRET).json()
    assert client.delete(f"/v1/feedback/{kept['id']}").status_code == 204
    assert problem(client.delete(f"/v1/feedback/{kept['id']}")) == (404, "unknown-feedback")
    left = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content or content == demo_clip.read_bytes() for content in left)
    assert client.get("/v1/feedback").json()["feedback"] == []


def test_nothing_that_was_said_is_logged(client: httpx.Client, server: RunningServer, demo_clip: Path) -> None:
    kept = send(client, demo_clip, filename="my-name.mp4", label="moonwalking", note=SECRET).json()
    send(client, demo_clip, label="moon\x00walking")
    client.get("/v1/feedback")
    client.delete(f"/v1/feedback/{kept['id']}")
    log = "".join(server.log)
    assert "POST /v1/feedback" in log
    for word in ("moonwalking", "moon", SECRET, "my-name", kept["id"]):
        assert word not in log


def test_a_server_without_the_setting_keeps_nothing(http: httpx.Client, demo_clip: Path) -> None:
    assert http.get("/v1/limits").json()["feedback"]["enabled"] is False
    for response in (send(http, demo_clip, label="a"), http.get("/v1/feedback"), http.delete("/v1/feedback/x")):
        assert problem(response) == (403, "feedback-off")
        assert "SERVE_FEEDBACK__ENABLED=true" in response.json()["detail"]


def test_limits_and_documentation_report_it(client: httpx.Client) -> None:
    limits = client.get("/v1/limits").json()["feedback"]
    assert limits == {"enabled": True, "max_bytes": 10 * 2**30, "max_clips": 12}
    paths = client.get("/openapi.json").json()["paths"]
    post = paths["/v1/feedback"]["post"]
    form = post["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["video", "label"]
    assert {"predicted", "request_id", "note", "vocabulary"} <= set(form["properties"])
    assert {"200", "201", "403", "507"} <= set(post["responses"])
    assert "delete" in paths["/v1/feedback/{feedback_id}"]


def test_the_command_line_sends_lists_and_erases(client: httpx.Client, server: RunningServer, demo_clip: Path) -> None:
    def run(*words: str) -> str:
        command = [str(Path(sys.executable).with_name("actserve")), "feedback", *words, "--server", server.address]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = run("send", str(demo_clip), "moonwalking", "--vocabulary", "demo", "--print-curl")
    assert "--form-string label=moonwalking" in shown or "'label=moonwalking'" in shown
    assert client.get("/v1/feedback").json()["num_clips"] == 0
    sent = run("send", str(demo_clip), "moonwalking", "--vocabulary", "demo", "--predicted", "walking")
    assert "which is not a label of the vocabulary" in sent
    feedback_id = sent.partition(":")[0]
    assert f"{feedback_id}\tmoonwalking\twalking" in run("list")
    assert "deleted" in run("remove", feedback_id, "--yes")
    assert client.get("/v1/feedback").json()["num_clips"] == 0


def test_a_killed_server_has_every_clip_it_acknowledged(tmp_path: Path) -> None:
    clips = [make_video(tmp_path / f"{number}.mp4", num_frames=4 + number) for number in range(4)]
    place = tmp_path / "cache" / "data" / "feedback"  # in the data folder, unless another is named
    variables = {"SERVE_FEEDBACK__ENABLED": "true"}
    acknowledged: list[dict[str, Any]] = []
    with running_server(tmp_path / "cache", **variables) as server:

        def keep_sending(number: int) -> None:
            with httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client:
                for turn in range(1000):
                    try:
                        response = send(client, clips[number], label=f"label {turn}")
                    except httpx.HTTPError:
                        return
                    acknowledged.append(response.json())

        senders = [threading.Thread(target=keep_sending, args=(number,)) for number in range(4)]
        for sender in senders:
            sender.start()
        while len(acknowledged) < 12 and any(sender.is_alive() for sender in senders):
            senders[0].join(0.05)
        server.process.kill()
        for sender in senders:
            sender.join()
    rows, _ = read_index(place)
    assert len(acknowledged) >= 12
    assert {row["id"] for row in acknowledged} <= {row.feedback_id for row in rows}
    assert all(clip_path(place, row).is_file() for row in rows)
    (place / "clips" / f"{'0' * 32}.partial").write_bytes(b"half")
    with running_server(tmp_path / "cache", **variables) as server:
        page = httpx.get(f"{server.address}/v1/feedback?page_size=1000", timeout=PATIENCE_SECONDS).json()
    assert {row["id"] for row in page["feedback"]} == {row.feedback_id for row in rows}
    assert {path.name for path in (place / "clips").iterdir()} == {row.file for row in rows}


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    variables = {"SERVE_FEEDBACK__ENABLED": "true", "SERVE_FEEDBACK__DIR": str(tmp_path / "taken")}
    with pytest.raises(RuntimeError, match="feedback folder"), running_server(tmp_path / "cache", **variables):
        pass


def test_rows_are_plain_documents(client: httpx.Client, folder: Path, demo_clip: Path) -> None:
    send(client, demo_clip, label="été 🏖").raise_for_status()
    lines = (folder / "feedback.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["été 🏖"]
