"""Batches that are killed again and again, and the rate of `actserve batch`.

`python -m tests.bench.batch_bench` kills runs with SIGKILL at random moments, continues each until the archive is done,
and counts inputs that were lost or processed twice. `test_kills.py` runs one round.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyarrow import parquet

from tests.bench.promises import Promise, settle
from tests.running_server import ROOT
from tests.waiting import eventually

LABELS = "walking,waving,bowing"


@dataclass(kw_only=True)
class Tally:
    """What the rounds found."""

    rounds: int = 0
    kills: int = 0
    inputs: int = 0
    repeated: int = 0  # inputs with two outcomes, or that a run processed although they had one
    lost: int = 0
    leftover_files: int = 0  # files without a commit that the killed runs left
    committed_at_kills: int = 0


def command(inputs: Path, out: Path, *words: str) -> list[str]:
    """The command of a batch whose parts have one input, so that each input has a commit of its own."""
    start = [sys.executable, "-m", "serve.cli", "batch", str(inputs), "--out", str(out), "--model", "demo", "--json"]
    return [*start, "--labels", LABELS, "--format", "both", "--part-size", "1", *words]


def make_inputs(folder: Path, clip: Path, number: int) -> Path:
    """Write a folder with copies of a clip, every tenth of them a file that is no video."""
    folder.mkdir(parents=True)
    for index in range(number):
        content = b"no video" if index % 10 == 9 else clip.read_bytes()
        (folder / f"{index:04d}.mp4").write_bytes(content)
    return folder


def commits(out: Path) -> set[int]:
    """The inputs that have an outcome."""
    documents = [json.loads(path.read_bytes()) for path in (out / "commits").glob("part-*.json")]
    return {index for document in documents for index in (*document["completed"], *document["failed"])}


def kill_when(process: subprocess.Popen[str], out: Path, num_commits: int) -> bool:
    """Kill a run with SIGKILL when it has so many commits; return False if it ended before."""
    eventually(lambda: process.poll() is not None or len(list(out.glob("commits/part-*.json"))) >= num_commits)
    is_killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return is_killed


def kill_rounds(folder: Path, clip: Path, *, rounds: int, inputs: int, kills: int, seed: int) -> Tally:
    """Run batches, each of which is killed `kills` times, and count."""
    tally, choose = Tally(), random.Random(seed)
    archive = make_inputs(folder / "archive", clip, inputs)
    for number in range(rounds):
        out = folder / f"out{number}"
        for _ in range(kills):
            done = len(commits(out))
            target = done + choose.randint(1, max(1, (inputs - done) // 2))
            process = subprocess.Popen(
                command(archive, out), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            tally.kills += kill_when(process, out, target)
        before = commits(out)
        listed = {name for path in out.glob("commits/part-*.json") for name in json.loads(path.read_bytes())["files"]}
        present = {
            str(path.relative_to(out)) for kind in ("results", "jsonl", "errors") for path in out.glob(f"{kind}/*")
        }
        tally.leftover_files += len(present - listed)
        tally.committed_at_kills += len(before)
        finished = subprocess.run(command(archive, out), cwd=ROOT, capture_output=True, text=True, check=False)
        count(tally, out, before, json.loads(finished.stdout), inputs)
    return tally


def count(tally: Tally, out: Path, before: set[int], counts: dict[str, Any], inputs: int) -> None:
    """Count the outcomes of a finished batch whose last run found `before`."""
    outcomes: Counter[int] = Counter(parquet.read_table(out / "results")["index"].to_pylist())
    lines: Counter[int] = Counter()
    for kind, target in (("errors", outcomes), ("jsonl", lines)):
        for path in (out / kind).glob("*.jsonl"):
            target.update(json.loads(line)["index"] for line in path.read_text(encoding="utf-8").splitlines())
    lines.update(index for index in outcomes if index not in lines)  # errors have no line of results
    tally.rounds += 1
    tally.inputs += inputs
    tally.lost += inputs - len(outcomes)
    tally.repeated += sum(max(outcomes[index], lines[index]) - 1 for index in outcomes)
    processed = counts["completed"] + counts["failed"]
    tally.repeated += abs(processed - (inputs - len(before)))
    assert counts["completed_before"] + counts["failed_before"] == len(before)


def judged(tally: Tally) -> list[Promise]:
    """Return the promises: no input is lost or processed twice, and kills met batches at work."""
    return [
        Promise(words="inputs lost", found=tally.lost, most=0),
        Promise(words="inputs processed twice", found=tally.repeated, most=0),
        Promise(words="kills", found=tally.kills, least=1),
        Promise(words="inputs committed at the last kills", found=tally.committed_at_kills, least=1),
        Promise(words="inputs that were not", found=tally.inputs - tally.committed_at_kills, least=1),
    ]


def measure(folder: Path, clip: Path, *, inputs: int) -> dict[str, Any]:
    """Return the rate of one run over copies of a clip, with the time to start."""
    archive = make_inputs(folder / "measured", clip, inputs)
    started = time.perf_counter()
    done = subprocess.run(
        command(archive, folder / "measured-out", "--part-size", "1000"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    counts = json.loads(done.stdout)
    return {"inputs": inputs, "failed": counts["failed"], "seconds": round(seconds, 1), "processors": os.cpu_count(),
            "inputs_per_second_with_start": round(inputs / seconds, 1)}  # fmt: skip


def main() -> None:
    """Print the tally and the rate, as text and as one line of JSON."""
    from training.demo.captions import Combination
    from training.demo.videos import render_video, write_video

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=3, help="kills of each round")
    parser.add_argument("--inputs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SERVE_DATA_DIR"] = str(folder / "data")
        clip = folder / "clip.mp4"
        video = render_video(Combination("walking", "left", "red"), "test", 1, size=160)
        write_video(clip, video.frames, fps=video.fps)
        options = {"rounds": arguments.rounds, "inputs": arguments.inputs, "kills": arguments.kills}
        tally = kill_rounds(folder, clip, **options, seed=arguments.seed)
        rate = measure(folder, clip, inputs=10 * arguments.inputs)
    for title, value in {**vars(tally), **rate}.items():
        print(f"{title:30} {value}")
    print(json.dumps({"tally": vars(tally), "rate": rate}))
    settle(
        judged(tally),
        {
            "an input that is lost": judged(replace(tally, lost=1)),
            "an input that is processed twice": judged(replace(tally, repeated=1)),
        },
    )


if __name__ == "__main__":
    main()
