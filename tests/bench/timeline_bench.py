"""Does a timeline find actions with known boundaries? Stitched videos, against windows side by side with argmax.

Rendered actions (demo model, all of its labels) and real clips (starter model, all of its labels, and those of the
video alone). Actions that only their order in time tells apart are left out of the first row and make the second.

python -m tests.bench.timeline_bench
"""

import argparse
import asyncio
import csv
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from serve.arrays import UInt8Array
from serve.environment import load_settings
from serve.service import Service
from serve.timeline.options import TimelineOptions
from serve.timeline.responses import TimelineResponse
from serve.video.decode import open_video, read_frames
from serve.video.limits import DecodeSettings
from tests.bench.promises import Promise, settle
from tests.bench.segment_metrics import SegmentFigures, Span, segment_figures
from tests.shared_data import VIDEOS
from training.demo.actions import PAIRS
from training.demo.captions import Combination, combinations
from training.demo.videos import render_video

FPS, HEIGHT = 25, 160
REAL_WIDTH, REAL_HEIGHT, REAL_SECONDS = 340, 256, 8.0  # of a piece; shorter clips are whole
LEAST_DEMO_F1 = 0.85
NOTHING = SegmentFigures(num_known=0, num_found=0, num_matched=0, boundary_errors=())


@dataclass(frozen=True, kw_only=True)
class Stitched:
    """A video of several actions, one after the other."""

    path: Path
    known: list[Span]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    ours: SegmentFigures
    naive: SegmentFigures
    shuffled: SegmentFigures  # ours against the known segments with another order of labels
    times_real_time: float


def stitch(path: Path, pieces: Iterator[tuple[str, Sequence[UInt8Array]]], *, width: int, height: int) -> Stitched:
    """Encode pieces of frames [H, W, 3] one after the other."""
    known, count = [], 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for label, frames in pieces:
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            known.append((label, count / FPS, (count + len(frames)) / FPS))
            count += len(frames)
        container.mux(stream.encode())
    return Stitched(path=path, known=known)


def rendered(chosen: Sequence[Combination], seed: int) -> Iterator[tuple[str, list[UInt8Array]]]:
    """Render each combination, played twice, in the middle of a square picture."""
    for number, combination in enumerate(chosen):
        video = render_video(combination, "test", seed + number, size=HEIGHT)
        places = (np.arange(2 * len(video.frames) * FPS // video.fps) * video.fps // FPS) % len(video.frames)
        left = (video.frames[0].shape[1] - HEIGHT) // 2
        yield combination.label, [video.frames[place][:, left : left + HEIGHT] for place in places]


def real(chosen: Sequence[dict[str, str]]) -> Iterator[tuple[str, list[UInt8Array]]]:
    """Decode the first seconds of real clips at the common frame rate."""
    settings = DecodeSettings()
    for row in chosen:
        video = open_video(VIDEOS / row["file"], settings)
        times = video.read_timeline()
        count = int(min(times.duration_seconds, REAL_SECONDS) * FPS)
        places = np.searchsorted(times.pts_seconds, np.arange(count) / FPS + 1e-6, side="right") - 1
        reading = read_frames(video, lambda _, wanted=places: wanted, transform=_resized, settings=settings)
        yield row["label"], [reading.values[int(place)] for place in places]


def _resized(frame: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.resize(frame, (REAL_WIDTH, REAL_HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def argmax_segments(answer: TimelineResponse) -> list[Span]:
    """Join neighbouring windows, which do not overlap, with the same best label."""
    found: list[Span] = []
    for window in answer.windows or ():
        label = window.results[0].label
        if found and found[-1][0] == label:
            found[-1] = (label, found[-1][1], window.end_seconds)
        else:
            start = found[-1][2] if found else 0.0  # the last window overlaps the one before
            found.append((label, start, window.end_seconds))
    return found


async def measure(service: Service, name: str, videos: Sequence[Stitched], *, own_labels: bool = False) -> Row:
    """Make the timelines of videos both ways."""
    ours, naive, shuffled, seconds, took = NOTHING, NOTHING, NOTHING, 0.0, 0.0
    for video in videos:
        labels: dict[str, Any] = (
            {"candidate_labels": list(dict.fromkeys(item[0] for item in video.known))} if own_labels else {}
        )
        deadline = asyncio.get_running_loop().time() + 3600
        started = time.perf_counter()
        answer = await service.timelines.timeline(video.path, TimelineOptions(**labels), deadline=deadline)
        took += time.perf_counter() - started
        seconds += answer.video.duration_seconds
        side_by_side = TimelineOptions(
            **labels, view="windows", window_seconds=answer.window_seconds, stride_seconds=answer.window_seconds
        )
        windows = await service.timelines.timeline(video.path, side_by_side, deadline=deadline)
        found = [(item.label, item.start_seconds, item.end_seconds) for item in answer.segments or ()]
        moved = [item[0] for item in (*video.known[1:], video.known[0])]
        ours += segment_figures(video.known, found)
        naive += segment_figures(video.known, argmax_segments(windows))
        shuffled += segment_figures(
            [(label, start, end) for label, (_, start, end) in zip(moved, video.known, strict=True)], found
        )
    return Row(name=name, ours=ours, naive=naive, shuffled=shuffled, times_real_time=seconds / took)


async def measure_all(folder: Path, *, num_videos: int, per_video: int, seed: int) -> list[Row]:
    """Make the videos and the rows of the table."""
    random = np.random.default_rng(seed)
    by_order = {action for pair in PAIRS for action in pair}
    groups = {
        "rendered, told apart by pose": [
            item for item in combinations() if not item.direction and item.action not in by_order
        ],
        "rendered, told apart by order": [item for item in combinations() if item.action in by_order],
    }
    rows = []
    async with started("demo") as service:
        for name, group in groups.items():
            videos = [
                stitch(
                    folder / f"{n}.mp4",
                    rendered([group[i] for i in random.permutation(len(group))[:per_video]], seed + 1000 * n),
                    width=HEIGHT,
                    height=HEIGHT,
                )
                for n in range(num_videos)
            ]
            rows.append(await measure(service, f"{name}, 234 labels", videos))
    if VIDEOS.is_dir():
        clips = list(csv.DictReader((VIDEOS / "index.csv").open(encoding="utf-8")))
        videos = [
            stitch(
                folder / f"real{n}.mp4",
                real([clips[i] for i in random.permutation(len(clips))[:per_video]]),
                width=REAL_WIDTH,
                height=REAL_HEIGHT,
            )
            for n in range(num_videos)
        ]
        async with started("starter") as service:
            rows.append(await measure(service, "real, labels of the video", videos, own_labels=True))
            rows.append(await measure(service, "real, 71 labels", videos))
    return rows


class started:  # noqa: N801  # used as a function
    """A service of one model, as a block."""

    def __init__(self, model: str) -> None:
        self._service = Service(load_settings({"model": model}))

    async def __aenter__(self) -> Service:
        await self._service.start()
        return self._service

    async def __aexit__(self, *_: object) -> None:
        await self._service.close()


def main() -> None:
    """Print the table, one JSON line, and whether the promises hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=3, help="videos of each kind")
    parser.add_argument("--actions", type=int, default=8, help="actions in a video")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(
            measure_all(Path(folder), num_videos=options.videos, per_video=options.actions, seed=options.seed)
        )
    print(f"{'':34} {'actions':>7} | {'timeline':^16} | {'argmax side by side':^19} | x real time")
    print(f"{'':34} {'':>7} | {'F1':>6} {'bounds':>9} | {'F1':>8} {'bounds':>10} |")
    for row in rows:
        print(
            f"{row.name:34} {row.ours.num_known:7} | {row.ours.f1:6.3f} {row.ours.boundary_error:7.2f} s | "
            f"{row.naive.f1:8.3f} {row.naive.boundary_error:8.2f} s | {row.times_real_time:8.1f}"
        )
    figures = {
        row.name: {"f1": row.ours.f1, "boundary_error": row.ours.boundary_error, "argmax_f1": row.naive.f1}
        for row in rows
    }
    print(json.dumps(figures))
    settle(judged(rows), {"labels in another order": judged(rows, is_control=True)})


def judged(rows: Sequence[Row], *, is_control: bool = False) -> list[Promise]:
    """Return the promises of the table: on rendered actions and against argmax."""
    first = rows[0].shuffled if is_control else rows[0].ours
    return [
        Promise(words="F1 at IoU 0.5, rendered actions told apart by pose", found=first.f1, least=LEAST_DEMO_F1),
        Promise(words="F1 beyond that of argmax side by side", found=first.f1 - rows[0].naive.f1, least=0.0),
    ]


if __name__ == "__main__":
    main()
