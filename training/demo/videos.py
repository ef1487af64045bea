"""Write demo videos as MP4 files (H.264), with an index of their labels."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from serve.arrays import UInt8Array
from training.config import ConfigError
from training.demo.captions import Combination, combinations, held_out, opposite, seen
from training.demo.scenes import World, draw_scene, make_generator, make_scene

SPLITS: dict[str, tuple[World, tuple[Combination, ...]]] = {
    "train": ("train", seen()),
    "seen": ("test", seen()),
    "heldout": ("test", tuple(sorted(held_out()))),
    "pairs": ("test", tuple(item for item in combinations() if opposite(item) and not item.direction)),
    "directions": ("test", tuple(item for item in combinations() if item.direction)),
}
LABEL_KINDS = ("label", "activity")
COLUMNS = ("path", "label", "action", "direction", "colour", "seed", "split", "num_frames", "fps", "width", "height")
FRAME_RATES = (12, 15, 24, 25, 30)


@dataclass(frozen=True, kw_only=True)
class DemoVideo:
    """A rendered video and the combination that it shows."""

    combination: Combination
    frames: list[UInt8Array]  # [N] of [H, W, 3]
    fps: int
    seed: int


def render_video(combination: Combination, world: World, seed: int, *, size: int) -> DemoVideo:
    """Render all frames of a scene; `size` is the shorter side in pixels."""
    scene = make_scene(combination, world, seed, short_side=size + size % 2)
    fps = int(make_generator(world, -seed - 1).choice(FRAME_RATES))
    num_frames = max(8, round(scene.duration_seconds * fps))
    frames = [draw_scene(scene, (i + 0.5) / num_frames) for i in range(num_frames)]
    return DemoVideo(combination=combination, frames=frames, fps=fps, seed=seed)


def shuffle_pieces(frames: Sequence[UInt8Array], *, num_pieces: int, seed: int) -> list[UInt8Array]:
    """Cut a video into `num_pieces` pieces of equal length and shuffle them."""
    order = np.random.default_rng(seed).permutation(num_pieces)
    edges = np.linspace(0, len(frames), num_pieces + 1).astype(int)
    return [frame for piece in order for frame in frames[edges[piece] : edges[piece + 1]]]


def write_video(path: Path, frames: Sequence[UInt8Array], *, fps: int, crf: int = 26) -> None:
    """Encode frames [H, W, 3] as H.264 into an MP4 file."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_videos(folder: Path, *, count: int, split: str, seed: int, size: int, words: str = "label") -> Path:
    """Write `count` videos of a split, cycling through its combinations, and `index.csv`; return the index's path.

    `words` selects the content of the column `label`: `label` is the complete label, `activity` omits the colour.

    Raises:
        ConfigError: `split` or `words` is unknown.
    """
    for name, value, known in (("--split", split, tuple(SPLITS)), ("--words", words, LABEL_KINDS)):
        if value not in known:
            raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    world, group = SPLITS[split]
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "index.csv"
    with index.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for n in range(count):
            video = render_video(group[n * 7 % len(group)], world, seed + n, size=size)
            path = folder / f"{split}_{seed + n:08d}.mp4"
            write_video(path, video.frames, fps=video.fps, crf=int(make_generator(world, seed + n).integers(20, 33)))
            height, width = video.frames[0].shape[:2]
            item = video.combination
            writer.writerow(
                [path.name, getattr(item, words), item.action, item.direction, item.colour, seed + n, split,
                 len(video.frames), video.fps, width, height]
            )  # fmt: skip
    return index
