"""Few-shot on 20 classes x 16 clips: what encoding costs once, what every fit costs after it, and what it is worth.

The promise: examples of words that no text tower has seen lift both methods from chance to at least `LEAST` with 16
shots, no K lies below the one before it by more than noise, and kept features are not encoded again. The control:
labels that were exchanged among the clips.

python -m tests.bench.few_shot_bench
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from serve.contract import ScoringContract
from tests.bench.promises import Promise, settle, share_error
from tests.running_server import ROOT
from training.demo.captions import combinations
from training.demo.scenes import draw_scene, make_scene
from training.demo.videos import write_video
from training.few_shot.methods import METHODS, LabelledFeatures

CLASSES, SHOTS, TESTS = 20, 16, 8
FRAMES = 16  # of a clip: rendering would otherwise take most of the bench
WIDTH = 512  # of a ViT-B/16 of CLIP
LEAST = 0.8  # measured: 0.94 and 0.99
NOISE = share_error(CLASSES * TESTS)  # of a share of the videos that judge a draw
SYLLABLES = ("flum", "grib", "zor", "wuz", "blen", "tav", "quim", "snar", "dret", "ploo")


def main() -> None:
    """Print the tables and one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder) / "clips"  # draws depend on the names of file and folder
        clips.mkdir()
        listings = _render(clips)
        runs = {name: _run(Path(folder), listing) for name, listing in listings.items()}
        again = _run(Path(folder), listings["new words"])
        control = _run(Path(folder), _exchanged(listings["new words"]))
    fits = _fit_alone()
    first = runs["new words"]
    print(f"{CLASSES} classes, {SHOTS} shots and {TESTS} tests each, bundled demo model on onnxruntime, 3 seeds")
    for name, document in runs.items():
        print(f"{name}: top-1 by shots" + "".join(f"{row['shots']:>15}" for row in document["summary"]))
        for method in ("zero_shot", *METHODS):
            cells = "".join(
                f"{row[method]['mean']:>8.3f} ± {row[method]['deviation']:.2f}" for row in document["summary"]
            )
            print(f"  {method:<20}{cells}")
    print(f"encoding {first['videos_encoded']} videos: {first['seconds']['encoding']:.1f} s, once")
    print(f"12 draws after it, both methods: {first['seconds']['all_after_encoding']:.1f} s")
    print(
        f"the whole command: {first['wall_seconds']:.1f} s at first, {again['wall_seconds']:.1f} s with kept features"
    )
    for name, seconds in fits.items():
        print(f"one fit of {name}, {CLASSES} x {SHOTS}, D = {WIDTH}: {seconds:.2f} s")
    document = {
        "bench": "few_shot",
        "processors": os.cpu_count(),
        "classes": CLASSES,
        "shots": SHOTS,
        "seconds_first": first["wall_seconds"],
        "seconds_kept": again["wall_seconds"],
        "seconds_encoding": first["seconds"]["encoding"],
        "seconds_after_encoding": first["seconds"]["all_after_encoding"],
        "fit_alone": fits,
        "summaries": {name: each["summary"] for name, each in runs.items()},
    }
    print(json.dumps(document))
    settle(
        judged(first, num_again=again["videos_encoded"]),
        {
            "labels exchanged among the clips": judged(control, num_again=0),
            "features that are encoded again": judged(first, num_again=first["videos_encoded"]),
        },
    )


def judged(document: Mapping[str, Any], *, num_again: int) -> list[Promise]:
    """What the document of new words and the videos that a second run encoded promise."""
    promises = [Promise(words="videos encoded again by the second run", found=num_again, most=0)]
    for method in METHODS:
        top1 = [row[method]["mean"] for row in document["summary"]]
        promises += [
            Promise(words=f"{method}: top-1 with {SHOTS} shots", found=top1[-1], least=LEAST),
            Promise(words=f"{method}: smallest rise from one K to the next", found=min(np.diff(top1)), least=-NOISE),
        ]
    zero = document["summary"][0]["zero_shot"]["mean"]
    return [*promises, Promise(words="zero-shot top-1 of new words", found=zero, most=1 / CLASSES + NOISE)]


def _render(folder: Path) -> dict[str, Path]:
    """Clips, and two CSV files of them: activities under words no text tower has seen, and under their own names."""
    shown = {item.activity: item for item in combinations()}
    activities = sorted(shown)[:CLASSES]
    colours = ("red", "blue", "green", "yellow")
    rows = []
    for place, activity in enumerate(activities):
        for number in range(SHOTS + TESTS):
            path = folder / f"{place}-{number}.mp4"
            wanted = replace(shown[activity], colour=colours[number % 4])
            scene = make_scene(wanted, "test", 9000 + 100 * place + number, short_side=96)
            write_video(path, [draw_scene(scene, (i + 0.5) / FRAMES) for i in range(FRAMES)], fps=8)
            word = f"{SYLLABLES[place % 10]}{SYLLABLES[place // 10]}ing"
            rows.append((path.name, word, activity))
    found = {}
    for column, name in ((1, "new words"), (2, "own names")):
        found[name] = folder / f"{name}.csv"
        with found[name].open("w", newline="") as stream:
            csv.writer(stream).writerows([("path", "label"), *((row[0], row[column]) for row in rows)])
    return found


def _exchanged(listing: Path) -> Path:
    """The list with its labels dealt out anew."""
    with listing.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    labels = np.random.default_rng(0).permutation([label for _, label in rows]).tolist()
    path = listing.with_name("exchanged.csv")
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *zip([file for file, _ in rows], labels, strict=True)])
    return path


def _run(folder: Path, listing: Path) -> dict[str, Any]:
    """The command, as a person runs it; its document and seconds on the clock."""
    cache = "new words" if listing.stem == "exchanged" else listing.stem  # the same clips under the same model
    command = [
        sys.executable, "-m", "training", "few-shot", "demo", str(listing), "--repository", "model_repository",
        "--shots", "2,4,8,16", "--seeds", "0,1,2",
        "--cache", str(folder / cache), "--out", str(folder / f"{listing.stem} out"),
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**document, "wall_seconds": round(time.perf_counter() - started, 2)}


def _fit_alone() -> dict[str, float]:
    """Seconds of one fit of each method on features of a CLIP's width, text that knows a little."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), SHOTS)
    centres = random.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    features = centres[labels] + 2 * random.normal(size=(len(labels), WIDTH)).astype(np.float32)
    text = (0.2 * features @ centres.T / WIDTH * 100).astype(np.float32)
    shots = LabelledFeatures(features=features, text_logits=text[:, None, :], labels=labels)
    contract = ScoringContract(logit_scale=100.0, ensembling="mean_embedding", view_rule="mean_logit")
    found = {}
    for name, fit in METHODS.items():
        started = time.perf_counter()
        fit(shots, contract)
        found[name] = round(time.perf_counter() - started, 3)
    return found


if __name__ == "__main__":
    main()
