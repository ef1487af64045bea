"""Measure few-shot evaluation on 20 classes x 16 clips: time of encoding, time of fits, and accuracy.

python -m tests.bench.few_shot_bench
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from serve.contract import ScoringContract
from tests.running_server import ROOT
from training.demo.captions import combinations
from training.demo.scenes import draw_scene, make_scene
from training.demo.videos import write_video
from training.few_shot.methods import METHODS, VideoSet

CLASSES, SHOTS, TESTS = 20, 16, 8
FRAMES = 16  # per clip, to keep rendering short
WIDTH = 512  # of CLIP's ViT-B/16
SYLLABLES = ("flum", "grib", "zor", "wuz", "blen", "tav", "quim", "snar", "dret", "ploo")


def main() -> None:
    """Print the tables and one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder) / "clips"  # samples depend on the names of file and folder
        clips.mkdir()
        listings = _render(clips)
        runs = {name: _run(Path(folder), listing) for name, listing in listings.items()}
        again = _run(Path(folder), listings["new words"])
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


def _render(folder: Path) -> dict[str, Path]:
    """Render clips and write two CSV files: activities with made-up names, and with their real names."""
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


def _run(folder: Path, listing: Path) -> dict[str, Any]:
    """Run the command; return its document and wall time."""
    command = [
        sys.executable, "-m", "training", "few-shot", "demo", str(listing), "--repository", "model_repository",
        "--shots", "2,4,8,16", "--seeds", "0,1,2",
        "--cache", str(folder / listing.stem), "--out", str(folder / f"{listing.stem} out"),
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**document, "wall_seconds": round(time.perf_counter() - started, 2)}


def _fit_alone() -> dict[str, float]:
    """Return the seconds of one fit of each method on features of CLIP's width."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), SHOTS)
    centres = random.normal(size=(CLASSES, WIDTH)).astype(np.float32)
    features = centres[labels] + 2 * random.normal(size=(len(labels), WIDTH)).astype(np.float32)
    text = (0.2 * features @ centres.T / WIDTH * 100).astype(np.float32)
    shots = VideoSet(features=features, text_logits=text[:, None, :], labels=labels)
    contract = ScoringContract(logit_scale=100.0, ensembling="mean_embedding", view_rule="mean_logit")
    found = {}
    for name, fit in METHODS.items():
        started = time.perf_counter()
        fit(shots, contract)
        found[name] = round(time.perf_counter() - started, 3)
    return found


if __name__ == "__main__":
    main()
