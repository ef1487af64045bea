"""Does a timeline need more memory for a longer video? One rendered clip of 1280x720, repeated by its packets.

Prints the memory of this process and of its decode child while the timelines of a short and of a long video are made,
and how much faster than real time that is. The index of the packets is the one thing in the child that grows.

python -m tests.bench.long_video_bench --minutes 10 60
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import psutil

from serve.environment import load_settings
from serve.service import Service
from serve.timeline.options import TimelineOptions
from serve.video.view_request import VideoInfo
from tests.bench.promises import Promise, settle
from training.demo.captions import Combination
from training.demo.videos import render_video

FPS, WIDTH, HEIGHT = 25, 1280, 720
MIB = 2**20
SETTLED = 0.25  # share of a video after which caches and arenas have their size
MOST_GROWTH_MIB = 32  # of the server's process, from there to the end: garbage that is not collected yet
MOST_BYTES_PER_FRAME = 1000  # of the child, from the short video to the long one: an entry of the index


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Memory while one timeline is made."""

    minutes: float
    seconds: float
    num_frames: int
    shares: list[float]  # of the video that was done
    server: list[float]  # MiB, resident
    child: list[float]

    def growth(self, values: Sequence[float]) -> float:
        """Highest value of the last quarter over the highest of the first quarters after settling."""
        shares = np.array(self.shares)
        early = (shares >= SETTLED) & (shares < 0.5)
        return float(np.array(values)[shares >= 0.75].max() - np.array(values)[early].max())


def looped(path: Path, *, minutes: float) -> Path:
    """Write a video of a length: the packets of ten seconds, again and again."""
    clip = path.with_name("clip.mp4")
    if not clip.exists():
        video = render_video(Combination("clapping", "", "blue"), "test", 1, size=HEIGHT)
        left = max(0, (video.frames[0].shape[1] - WIDTH) // 2)
        with av.open(str(clip), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"crf": "26", "preset": "veryfast", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for number in range(10 * FPS):
                frame = video.frames[number * video.fps // FPS % len(video.frames)][:, left : left + WIDTH]
                canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
                canvas[:, : frame.shape[1]] = frame
                container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
            container.mux(stream.encode())
    with av.open(str(clip)) as reading, av.open(str(path), "w") as writing:
        source = reading.streams.video[0]
        stream = writing.add_stream_from_template(source)
        contents = [(bytes(packet), packet.is_keyframe) for packet in reading.demux(source) if packet.size]
        step = round(1 / FPS / source.time_base)
        for number in range(int(60 * minutes * FPS)):
            content, is_key = contents[number % len(contents)]
            packet = av.Packet(content)
            packet.stream, packet.pts, packet.dts, packet.duration = stream, number * step, number * step, step
            packet.time_base, packet.is_keyframe = source.time_base, is_key
            writing.mux(packet)
    return path


async def measured(service: Service, path: Path, *, minutes: float) -> Curve:
    """Make the timeline of a video and follow the memory."""
    shares: list[float] = []
    server: list[float] = []
    child: list[float] = []
    num_frames = 0

    def progress(seconds: float, info: VideoInfo) -> None:
        nonlocal num_frames
        num_frames = info.num_frames
        (own,) = service.pool._dedicated
        shares.append(seconds / info.duration_seconds)
        server.append(psutil.Process().memory_info().rss / MIB)
        child.append(psutil.Process(own.pid).memory_info().rss / MIB)

    options = TimelineOptions(window_seconds=2.0, stride_seconds=1.0)
    started = time.perf_counter()
    await service.timelines.timeline(
        path, options, deadline=asyncio.get_running_loop().time() + 24 * 3600, progress=progress
    )
    took = time.perf_counter() - started
    return Curve(
        minutes=minutes, seconds=took, num_frames=num_frames, shares=shares, server=server, child=child
    )  # fmt: skip


async def measure_all(folder: Path, minutes: Sequence[float], *, model: str) -> list[Curve]:
    """Measure one length after the other with one service."""
    service = Service(load_settings({"model": model}))
    try:
        await service.start()
        return [await measured(service, looped(folder / f"{m:g}.mp4", minutes=m), minutes=m) for m in minutes]
    finally:
        await service.close()


def main() -> None:
    """Print the curves, one JSON line, and whether the promises hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, nargs=2, default=(10.0, 60.0), help="length of both videos")
    parser.add_argument("--model", default="demo")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        curves = asyncio.run(measure_all(Path(folder), sorted(options.minutes), model=options.model))
    print("minutes  x real time |  server MiB at 25, 50, 75, 100 % |  decode child MiB at 25, 50, 75, 100 %")
    for curve in curves:
        at = [int(np.searchsorted(curve.shares, share)) for share in (0.25, 0.5, 0.75, 0.999)]
        rows = [
            " ".join(f"{values[min(i, len(values) - 1)]:7.1f}" for i in at) for values in (curve.server, curve.child)
        ]
        print(f"{curve.minutes:7g} {60 * curve.minutes / curve.seconds:12.1f} | {rows[0]:>32} | {rows[1]:>32}")
    short, long = curves
    per_frame = (max(long.child) - max(short.child)) * MIB / (long.num_frames - short.num_frames)
    figures = {
        "server_growth_mib": long.growth(long.server),
        "child_growth_mib": long.growth(long.child),
        "child_bytes_per_frame": per_frame,
        "times_real_time": 60 * long.minutes / long.seconds,
    }
    print(f"the decode child takes {per_frame:.0f} bytes more for each further frame")
    print(json.dumps(figures))
    settle(judged(figures), {"a kilobyte kept of each window": judged(_leaking(figures, long))})


def judged(figures: dict[str, float]) -> list[Promise]:
    """Return the promises of a long video."""
    return [
        Promise(words="growth of the server in MiB", found=figures["server_growth_mib"], most=MOST_GROWTH_MIB),
        Promise(words="growth of the child in MiB", found=figures["child_growth_mib"], most=MOST_GROWTH_MIB),
        Promise(
            words="bytes of the child per frame", found=figures["child_bytes_per_frame"], most=MOST_BYTES_PER_FRAME
        ),
    ]


def _leaking(figures: dict[str, float], long: Curve) -> dict[str, float]:
    """The figures of a server that keeps the frames of each window, 8 of 80x80 pixels, in half of the video."""
    kept = 8 * 3 * 80 * 80 * 60 * long.minutes / 2 / MIB
    return {**figures, "server_growth_mib": figures["server_growth_mib"] + kept}


if __name__ == "__main__":
    main()
