"""How close the training loader comes to the decode limit: clips a second, with as many processes.

    python -m tests.bench.loader_bench [VIDEO...]

The limit is processes that do nothing but decode the frames a training clip needs, one thread each. Beside it stand
the loader making test views (resize and centre crop) and training clips of both systems (random cuts, colours), at T =
8, S = 224. Rounds of all kinds take turns; medians are printed as a table and one JSON line. The promise: each loader
reaches `LEAST` of the limit. The control: a loader that makes every clip three times.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from serve.video.decode import open_video, read_frames
from serve.video.limits import DecodeSettings
from serve.video.sampling import clip_indices
from tests.bench.promises import Promise, settle, spread
from tests.shared_data import VIDEOS
from training.config import DataConfig
from training.data.clips.datasets import EpochSampler, Sample, TestClips, TrainingClips, collate, start_method
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import clip_rule
from training.data.decoding.pool import num_processors
from training.data.lists.rows import Entry
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

CLIPS = ("arm_wrestling.mp4", "bowling_mesh.mp4", "shooting_basketball.mp4", "hitting_baseball.mp4")
ROUNDS = 3
COPIES = 6  # of each video in a round
WARM_UP = 2  # batches that start the processes
BATCH = 4
SETTINGS = DecodeSettings(threads=1)
LEAST = 0.5  # measured: 0.67 to 0.83
CONTROL = "control, every test view three times"


class ThreeTimes(Dataset[Sample]):
    """A control: every clip is made three times."""

    def __init__(self, clips: TestClips) -> None:
        self._clips = clips

    def __getitem__(self, index: int) -> Sample:
        return [self._clips[index] for _ in range(3)][-1]


def decode_clip(path: str) -> int:
    """Decode the T middles of a video's segments at full size; returns how many."""
    video = open_video(Path(path), SETTINGS)
    middles = partial(clip_indices, "centres", num_segments=8)
    return len(read_frames(video, middles, transform=np.copy, settings=SETTINGS).values)


def bare_decoding(paths: Sequence[Path], *, processes: int) -> float:
    """Clips a second of processes that only decode."""
    work = [str(path) for path in paths] * COPIES
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(decode_clip, work[: WARM_UP * BATCH * processes]))
        begun = time.perf_counter()
        list(pool.map(decode_clip, work))
        return len(work) / (time.perf_counter() - begun)


def loading(dataset: Dataset[Sample], num_entries: int, *, processes: int, is_training: bool) -> float:
    """Clips a second of a loader; each of its workers decodes in a process of its own and waits meanwhile."""
    order = (
        EpochSampler(num_entries, seed=0) if is_training else list(range(num_entries)) * (COPIES + WARM_UP * processes)
    )
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=order,
        num_workers=processes,
        collate_fn=collate,
        multiprocessing_context=start_method(processes),
    )
    batches = iter(loader)
    for _ in range(WARM_UP * processes):
        next(batches)
    begun = time.perf_counter()
    count = 0
    while count < num_entries * COPIES:
        count += len(next(batches).labels)
    return count / (time.perf_counter() - begun)


def kinds(paths: Sequence[Path], *, processes: int) -> dict[str, Callable[[], float]]:
    """Name -> one round."""
    entries = [Entry(path=path, label=0) for path in paths]

    def reader(system: str) -> ClipReader:
        data = DataConfig(source="videos", system=system, image_size=224)
        return ClipReader(clip_rule(data, ("one",)), decode_settings(data))

    made: dict[str, Callable[[], float]] = {
        "decoding alone": lambda: bare_decoding(paths, processes=processes),
        "loader, test views": lambda: loading(
            TestClips(entries, reader("actionclip")), len(entries), processes=processes, is_training=False
        ),
    }
    made[CONTROL] = lambda: loading(
        ThreeTimes(TestClips(entries, reader("actionclip"))), len(entries), processes=processes, is_training=False
    )
    for system in ("xclip", "actionclip"):
        made[f"loader, {system} training"] = lambda system=system: loading(
            TrainingClips(entries, reader(system), seed=0), len(entries), processes=processes, is_training=True
        )
    return made


def main(paths: list[Path]) -> None:
    """Print the table and the JSON line; exit with 1 where a promise is broken."""
    with tempfile.TemporaryDirectory() as folder:
        paths = paths or [VIDEOS / name for name in CLIPS if (VIDEOS / name).is_file()] or _rendered(Path(folder))
        processes = num_processors()
        rounds = kinds(paths, processes=processes)
        figures: dict[str, list[float]] = {name: [] for name in rounds}
        for _ in range(ROUNDS):
            for name, measure in rounds.items():
                figures[name].append(measure())
    limit = statistics.median(figures["decoding alone"])
    rates = {name: statistics.median(values) for name, values in figures.items()}
    print(f"{len(paths)} videos, {processes} processes" + " " * 20 + "clips/s   of the limit")
    for name, rate in rates.items():
        print(f"{name:<42}{rate:10.1f}{rate / limit:15.2f}")
    facts = {"benchmark": "loader", "processors": len(os.sched_getaffinity(0)), "machine": platform.machine()}
    versions = {name: version(name) for name in ("av", "torch", "pillow", "numpy")}
    results = {name: {"clips_per_second": rate, "share_of_limit": rate / limit} for name, rate in rates.items()}
    print(json.dumps({**facts, "versions": versions, "rounds": ROUNDS, "processes": processes, "results": results}))
    for name, values in figures.items():
        print(f"{name}: {spread(values, 'clips/s')}")
    shares = {name: rate / limit for name, rate in rates.items() if name.startswith("loader")}
    settle(judged(shares), {CONTROL.removeprefix("control, "): judged({"loader": rates[CONTROL] / limit})})


def judged(shares: Mapping[str, float]) -> list[Promise]:
    """What the shares of the decode limit promise."""
    return [
        Promise(words=f"{name}: share of the decode limit", found=share, least=LEAST) for name, share in shares.items()
    ]


def _rendered(folder: Path) -> list[Path]:
    """LabelledFeatures of our own, where no real ones lie beside the clone."""
    paths = []
    for number, direction in enumerate(("left", "right")):
        video = render_video(Combination("walking", direction, "red"), "test", number, size=256)
        paths.append(folder / f"{direction}.mp4")
        write_video(paths[-1], video.frames, fps=video.fps)
    return paths


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
