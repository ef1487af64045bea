"""The promotion gate: same clips, paired hits, a decision on record, and the server's model changed or left alone."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from export.errors import ExportError
from export.promotion import (
    LabelledClip,
    PromotionDecision,
    PromotionRefused,
    decide,
    evaluate,
    read_clips,
    require_independent_groups,
)
from serve.repository import read_version
from tests.running_server import ROOT, running_server
from tests.waiting import PATIENCE_SECONDS
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video
from training.evaluation.score_intervals import Z, min_independent_pairs, tango_statistic

ACTIONS = ("bowing", "kicking", "squatting", "clapping")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rendered clips with their labels; a path holds a space."""
    folder = tmp_path_factory.mktemp("promotion clips")
    with (folder / "clips.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label"])
        for action in ACTIONS:
            for seed in range(3):
                video = render_video(Combination(action, None, "red"), "test", 700 + seed, size=100)
                write_video(folder / f"{action} {seed}.mp4", video.frames, fps=video.fps)
                writer.writerow([f"{action} {seed}.mp4", action])
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def both(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model, which knows these actions, beside small ones that know nothing."""
    folder = tmp_path_factory.mktemp("both") / "repository"
    shutil.copytree(repository, folder)
    for part in ("demo_text", "demo_video"):
        shutil.copytree(ROOT / "model_repository" / part, folder / part)
    return folder


def promote(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export", "promote", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_a_better_candidate_takes_over_and_a_worse_one_is_refused(both: Path, index: Path, tmp_path: Path) -> None:
    environment = {"SERVE_REPOSITORY": str(both), "SERVE_MODEL": "tiny@1"}
    with (
        running_server(tmp_path / "cache", **environment) as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE_SECONDS) as http,
    ):
        common = ("--clips", str(index), "--server", server.address, "--repository", str(both),
                  "--record", str(tmp_path / "record.jsonl"), "--margin", "0.5")  # fmt: skip
        done = promote("demo", "--alias", "default", *common)
        assert done.returncode == 0, done.stderr
        assert "promoted" in done.stdout and "default: demo@1" in done.stdout
        assert http.get("/v1/models").json()["default"] == "demo@1"
        refused = promote("tiny@2", "--alias", "default", *common)
        assert refused.returncode == 1
        assert "may be worse than demo@1" in refused.stderr
        few = promote("demo@1", "--against", "tiny@1", *common, "--margin", "0.05")
        assert few.returncode == 1
        assert "12 of 12 clips are independent, but a margin of 0.05 requires at least 73" in few.stderr
        assert http.get("/v1/models").json()["default"] == "demo@1"
        with (index.parent / "bowing 0.mp4").open("rb") as stream:
            options = {"candidate_labels": json.dumps(ACTIONS), "top_k": 1}
            answer = http.post("/v1/classify", files={"video": stream}, data=options).json()
    decisions = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert [item["is_promoted"] for item in decisions] == [True, False], "a list that cannot decide leaves no decision"
    assert [(item["num_independent"], item["num_needed"]) for item in decisions] == [(12, 5), (12, 5)]
    assert [(item["candidate"], item["active"]) for item in decisions] == [("demo@1", "tiny@1"), ("tiny@2", "demo@1")]
    assert decisions[0]["candidate_top1"] == decisions[1]["active_top1"] > 0.7
    assert answer["results"][0]["label"] == "bowing"


@pytest.mark.parametrize("name", ["other", "fused"])
def test_every_family_is_evaluated(both: Path, index: Path, name: str) -> None:
    clips, labels = read_clips(index)
    hits = evaluate(both, read_version(both, name, 1), clips[:2], labels)
    assert hits.shape == (2,) and hits.dtype == bool


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\na,b\n", "needs a column for the path"),
        ("file,label\na,\n", "line 2: file and label are needed"),
        ("file,label\na,b\na,b\n", "2 clips with 1 labels"),
    ],
)
def test_a_list_that_cannot_decide_is_reported(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "clips.csv"
    path.write_text(text)
    (tmp_path / "a").write_bytes(b"a clip")
    with pytest.raises(ExportError, match=words):
        read_clips(path)


def decided(candidate: np.ndarray, active: np.ndarray, groups: np.ndarray, margin: float) -> PromotionDecision:
    return decide(candidate, active, groups, margin=margin, names=("new@2", "old@1"), labels=("a", "b"))


@pytest.mark.parametrize("count", [4, 10, 20, 50, 200, 1000])
@pytest.mark.parametrize("margin", [0.01, 0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("also_differ", [0.0, 0.05, 0.3])
def test_a_worse_candidate_is_rarely_promoted(count: int, margin: float, also_differ: float) -> None:
    """Candidates worse by exactly the margin in 20,000 lists, whose standard error is 0.0015: at most 5 % wrong."""
    gain, loss = also_differ / 2, also_differ / 2 + margin
    drawn = np.random.default_rng(count).multinomial(count, (gain, loss, 1 - gain - loss), size=20_000)
    is_enough = count >= min_independent_pairs(margin)
    promoted = is_enough & (tango_statistic(drawn[:, 0], drawn[:, 1], count, -margin) >= Z)
    assert promoted.mean() <= 0.05
    for (gained, lost, rest), expected in zip(drawn[:10].tolist(), promoted[:10].tolist(), strict=True):
        candidate = np.repeat([True, False, True], (gained, lost, rest))
        active = np.repeat([False, True, True], (gained, lost, rest))
        assert decided(candidate, active, np.arange(count), margin).is_promoted == expected


def test_a_list_of_copies_decides_nothing(tmp_path: Path) -> None:
    """100 files, all the same clip, or pieces of one video."""
    clips = [LabelledClip(path=tmp_path / f"clip{number}.mp4", label=number % 2) for number in range(100)]
    for clip in clips:
        clip.path.write_bytes(b"the same bytes")
    with pytest.raises(
        PromotionRefused, match=r"1 of 100 clips are independent, but a margin of 0[.]1 requires at least 35"
    ):
        require_independent_groups(clips, 0.1)
    pieces = [LabelledClip(path=tmp_path / f"video_part{number}.mp4", label=0) for number in range(40)]
    for number, clip in enumerate(pieces):
        clip.path.write_bytes(str(number).encode())
    with pytest.raises(PromotionRefused, match="1 of 40 clips are independent"):
        require_independent_groups(pieces, 0.1)
    (tmp_path / "list.csv").write_text(
        "path,label,group\n" + "".join(f"clip{number}.mp4,{'ab'[number % 2]},film\n" for number in range(4))
    )
    for number in range(4):
        (tmp_path / f"clip{number}.mp4").write_bytes(str(number).encode())
    with pytest.raises(PromotionRefused, match="1 of 4 clips are independent"):
        require_independent_groups(read_clips(tmp_path / "list.csv")[0], 0.5)
    with pytest.raises(ExportError, match="margin: must be greater than 0"):
        require_independent_groups(clips, 0)
    with pytest.raises(ExportError, match=r"cannot read .*gone\.mp4"):
        require_independent_groups([LabelledClip(path=tmp_path / "gone.mp4", label=0)], 0.1)


def test_the_power_of_a_list_is_on_record() -> None:
    random = np.random.default_rng(0)
    active = random.random(400) < 0.8
    candidate = np.where(random.random(400) < 0.1, ~active, active)
    decision = decided(candidate, active, np.arange(400), 0.1)
    assert decision.power > 0.99 > decided(candidate, active, np.arange(400), 0.01).power
    grouped = decided(candidate, active, np.arange(400) // 8, 0.1)
    assert grouped.num_independent == 50
    assert grouped.power < decision.power
    assert decided(active, active, np.arange(400), 0.01).is_promoted
    assert not decided(active, active, np.arange(400) // 4, 0.01).is_promoted
