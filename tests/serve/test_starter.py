"""The bundled starter model through a real server: real clips, words of many scripts, videos that show nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from tests.running_server import ROOT, running_server
from tests.shared_data import VIDEOS, needs_shared
from tests.waiting import PATIENCE_SECONDS

SPORTS = ["playing tennis", "cooking", "riding a bike", "playing drums"]
MAX_FILE, MAX_ALL = 50 * 2**20, 120 * 2**20  # bytes of the bundled models


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server without a model setting."""
    with (
        running_server(tmp_path_factory.mktemp("cache"), model=None) as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as client,
    ):
        yield client


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    return write_plain(tmp_path / "grey.mp4", level=128)


def write_plain(path: Path, *, level: int, num_frames: int = 12) -> Path:
    """A video of one shade."""
    frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), level, np.uint8), format="rgb24")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(num_frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def ask(client: httpx.Client, path: Path, **options: Any) -> httpx.Response:
    with path.open("rb") as stream:
        return client.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})


def test_it_is_the_default_and_says_what_it_is(starter: httpx.Client, grey: Path) -> None:
    models = starter.get("/v1/models").json()
    assert models["default"].startswith("starter@")
    answer = ask(starter, grey).json()
    assert answer["vocabulary"] == "starter@1"
    assert "does not see motion" in answer["notice"] and "make run MODEL=" in answer["notice"]
    assert 50 <= len(starter.get("/v1/vocabularies/starter").json()["labels"]) <= 80
    assert ask(starter, grey, vocabulary="kinetics400").json()["vocabulary"] == "kinetics400@1"


@needs_shared
@pytest.mark.parametrize(
    ("file", "label"),
    [("playing_tennis.mp4", SPORTS[0]), ("riding_bike_a.mp4", SPORTS[2]), ("playing_drums.mp4", SPORTS[3])],
)
@pytest.mark.parametrize("translated", [SPORTS, ["打网球", "做饭", "骑自行车", "打鼓"]], ids=["English", "Chinese"])
def test_a_real_clip_is_named(starter: httpx.Client, file: str, label: str, translated: list[str]) -> None:
    expected = translated[SPORTS.index(label)]
    assert ask(starter, VIDEOS / file, candidate_labels=translated).json()["results"][0]["label"] == expected


@pytest.mark.parametrize("level", [0, 128, 255], ids=["black", "grey", "white"])
@pytest.mark.parametrize("num_frames", [1, 12])
def test_a_video_that_shows_nothing_is_answered(
    starter: httpx.Client, tmp_path: Path, level: int, num_frames: int
) -> None:
    path = write_plain(tmp_path / "plain.mp4", level=level, num_frames=num_frames)
    answer = ask(starter, path, candidate_labels=SPORTS).json()
    scores = [item["score"] for item in answer["results"]]
    assert np.isfinite(scores).all() and sum(scores) == pytest.approx(1, abs=2e-4)  # four scores rounded to 4 places
    assert answer["sampling"]["num_frames"] == num_frames


@pytest.mark.parametrize(
    "labels",
    [
        ["cooking", "መዋኘት"],
        ["ᚠᛇᚻ", "cooking"],
        ["🏊🏽‍♀️", "🎾"],
        ["བོད་སྐད", "ᎣᏏᏲ", "cooking"],
        ["cooking " * 62, "swimming"],
        ["游" * 500, "swimming"],
        ["a", "."],
    ],
    ids=["Ethiopic", "runes", "emoji", "Tibetan, Cherokee", "496 letters", "500 ideographs", "single letters"],
)
def test_labels_outside_the_tokenizer_are_answered_or_refused(
    starter: httpx.Client, grey: Path, labels: list[str]
) -> None:
    response = ask(starter, grey, candidate_labels=labels)
    if response.status_code == 200:
        results = response.json()["results"]
        assert {item["label"] for item in results} == {label.strip() for label in labels}
        assert all(np.isfinite(item["logit"]) for item in results)
    else:
        assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid-vocabulary")
        assert "tokens" in response.json()["detail"]


def test_labels_of_an_unknown_script_are_reported_as_one(starter: httpx.Client, grey: Path) -> None:
    answer = ask(starter, grey, candidate_labels=["ᚠᛇᚻ", "ᛒᛦᚦ", "cooking"]).json()
    assert any("ᚠᛇᚻ" in str(warning) for warning in answer["vocabulary_warnings"]), answer["vocabulary_warnings"]


@pytest.mark.parametrize("label", ["", "   ", "\u200b\u200d", "x" * 501], ids=["empty", "blank", "invisible", "501"])
def test_labels_that_cannot_be_one_are_refused(starter: httpx.Client, grey: Path, label: str) -> None:
    response = ask(starter, grey, candidate_labels=[label, "cooking"])
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_the_bundled_models_stay_small() -> None:
    folders = [
        ROOT / "model_repository" / f"{name}_{part}" for name in ("demo", "starter") for part in ("text", "video")
    ]
    sizes = {path: path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert max(sizes.values()) <= MAX_FILE
    assert sum(sizes.values()) <= MAX_ALL


def test_labels_of_an_activated_model_can_be_used_at_once(starter: httpx.Client, grey: Path) -> None:
    """They are stored and encoded before the activation is reported as done."""
    done = starter.post("/v1/models/demo:activate", headers={"Prefer": f"wait={PATIENCE_SECONDS:.0f}"})
    assert (done.status_code, done.json()["is_done"]) == (200, True), done.text
    answer = ask(starter, grey, vocabulary="demo", model="demo")
    assert (answer.status_code, answer.json()["vocabulary"]) == (200, "demo@1"), answer.text
