"""Decoding speed against decord, with identical frames: 8 segment-centre frames of real clips, full size, RGB.

    python -m tests.bench.decode_bench [CLIP...]

Runs of the two alternate in one process; the medians of `ROUNDS` are printed as a table and one JSON line. The
promise: the same pixels, and no clip slower than with decord. The controls: frames one earlier, and a decoder that
decodes three times.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import decord
import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.video.decode import frames_at, open_video
from serve.video.limits import DecodeSettings
from serve.video.sampling import clip_indices
from tests.bench.promises import Promise, settle, spread
from tests.shared_data import VIDEOS

CLIPS = ("arm_wrestling.mp4", "cleaning_pool.mp4", "juggling_soccer_ball.mp4")
ROUNDS = 7
SETTINGS = DecodeSettings()


def with_pyav(path: Path, indices: Int64Array) -> UInt8Array:
    """Frames [N, H, W, 3], planned."""
    return frames_at(path, indices, settings=SETTINGS)


def with_decord(path: Path, indices: Int64Array) -> UInt8Array:
    """Frames [N, H, W, 3], decord's own batch call and choice of threads."""
    frames: UInt8Array = decord.VideoReader(str(path)).get_batch(indices).asnumpy()
    return frames


def milliseconds(decode: Callable[[Path, Int64Array], UInt8Array], path: Path, indices: Int64Array) -> float:
    """Wall time of one call."""
    begun = time.perf_counter()
    decode(path, indices)
    return (time.perf_counter() - begun) * 1000


def one_earlier(path: Path, indices: Int64Array) -> UInt8Array:
    """A control: the frames before those asked for."""
    return with_pyav(path, np.maximum(indices - 1, 0))


def three_times(path: Path, indices: Int64Array) -> UInt8Array:
    """A control: everything decoded three times."""
    return [with_pyav(path, indices) for _ in range(3)][-1]


def compare(
    path: Path, decode: Callable[[Path, Int64Array], UInt8Array] = with_pyav, *, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Medians of a decoder and of decord on one clip, and whether their pixels are equal."""
    num_frames = open_video(path, SETTINGS).read_timeline().num_frames
    indices = clip_indices("centres", num_frames, num_segments=8, num_clips=1)[0]
    is_equal = np.array_equal(decode(path, indices), with_decord(path, indices))  # also the warm-up
    pairs = [(milliseconds(decode, path, indices), milliseconds(with_decord, path, indices)) for _ in range(rounds)]
    pyav, decord_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "clip": path.name,
        "num_frames": num_frames,
        "pyav_ms": pyav,
        "decord_ms": decord_ms,
        "ratio": decord_ms / pyav,
        "is_equal": is_equal,
        "ratios": [theirs / ours for ours, theirs in pairs],
    }


def judged(results: Sequence[Mapping[str, Any]]) -> list[Promise]:
    """The same pixels, and not slower."""
    return [
        promise
        for row in results
        for promise in (
            Promise(words=f"{row['clip']}: pixels equal decord's", found=float(row["is_equal"]), least=1),
            Promise(words=f"{row['clip']}: times as fast as decord", found=row["ratio"], least=1),
        )
    ]


def main(paths: list[Path]) -> None:
    """Print the table and the JSON line; exit with 1 where a promise is broken."""
    results = [compare(path) for path in paths]
    print(f"{'clip':28} {'frames':>7} {'pyav ms':>9} {'decord ms':>10} {'ratio':>6}")
    for row in results:
        print(
            f"{row['clip']:28} {row['num_frames']:7} {row['pyav_ms']:9.1f} {row['decord_ms']:10.1f} {row['ratio']:6.2f}"
        )
    facts = {"benchmark": "decode", "processors": len(os.sched_getaffinity(0)), "machine": platform.machine()}
    versions = {name: version(name) for name in ("av", "decord", "numpy")}
    print(json.dumps({**facts, "versions": versions, "rounds": ROUNDS, "results": results}))
    for row in results:
        print(f"{row['clip']}: {spread(row['ratios'], 'times as fast')}")
    settle(
        judged(results),
        {
            "frames one earlier": judged([compare(path, one_earlier, rounds=1) for path in paths]),
            "everything decoded three times": judged([compare(path, three_times) for path in paths]),
        },
    )


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [VIDEOS / name for name in CLIPS])
