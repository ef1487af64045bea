"""Compare decoding speed with decord, for identical frames: 8 segment-centre frames of real clips, full size, RGB.

    python -m tests.bench.decode_bench [CLIP...]

Runs of the two alternate in one process. Prints medians of `ROUNDS` as a table and, as the last line, JSON.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import decord
import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.video.decode import frames_at, open_video
from serve.video.limits import DecodeSettings
from serve.video.sampling import clip_indices
from tests.shared_data import VIDEOS

CLIPS = ("arm_wrestling.mp4", "cleaning_pool.mp4", "juggling_soccer_ball.mp4")
ROUNDS = 7
SETTINGS = DecodeSettings()


def with_pyav(path: Path, indices: Int64Array) -> UInt8Array:
    """Return frames [N, H, W, 3], by planned decoding."""
    return frames_at(path, indices, settings=SETTINGS)


def with_decord(path: Path, indices: Int64Array) -> UInt8Array:
    """Return frames [N, H, W, 3], by decord's batch call with its default threads."""
    frames: UInt8Array = decord.VideoReader(str(path)).get_batch(indices).asnumpy()
    return frames


def milliseconds(decode: Callable[[Path, Int64Array], UInt8Array], path: Path, indices: Int64Array) -> float:
    """Return the wall time of one call."""
    begun = time.perf_counter()
    decode(path, indices)
    return (time.perf_counter() - begun) * 1000


def compare(path: Path) -> dict[str, object]:
    """Return the medians of both decoders on one clip; raise if their pixels differ."""
    num_frames = open_video(path, SETTINGS).counted().num_frames
    indices = clip_indices("centres", num_frames, num_segments=8, num_clips=1)[0]
    if not np.array_equal(with_pyav(path, indices), with_decord(path, indices)):  # also the warm-up
        raise SystemExit(f"{path.name}: the decoders return different frames, so times are not comparable")
    pairs = [(milliseconds(with_pyav, path, indices), milliseconds(with_decord, path, indices)) for _ in range(ROUNDS)]
    pyav, decord_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "clip": path.name,
        "num_frames": num_frames,
        "pyav_ms": pyav,
        "decord_ms": decord_ms,
        "ratio": decord_ms / pyav,
    }


def main(paths: list[Path]) -> None:
    """Print the table and the JSON line."""
    results = [compare(path) for path in paths]
    print(f"{'clip':28} {'frames':>7} {'pyav ms':>9} {'decord ms':>10} {'ratio':>6}")
    for row in results:
        print(
            f"{row['clip']:28} {row['num_frames']:7} {row['pyav_ms']:9.1f} {row['decord_ms']:10.1f} {row['ratio']:6.2f}"
        )
    facts = {"benchmark": "decode", "processors": len(os.sched_getaffinity(0)), "machine": platform.machine()}
    versions = {name: version(name) for name in ("av", "decord", "numpy")}
    print(json.dumps({**facts, "versions": versions, "rounds": ROUNDS, "results": results}))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [VIDEOS / name for name in CLIPS])
