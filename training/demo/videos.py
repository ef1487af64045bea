"""Write demo videos as files: H.264 in MP4, with an index of labels."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from serve.arrays import UInt8Array
from training.config import ConfigError
from training.demo.captions import Combination, combinations, held_out, opposite, seen
from training.demo.scenes import World, draw_scene, make_scene, random_for

SPLITS: dict[str, tuple[World, tuple[Combination, ...]]] = {
    "train": ("train", seen()),
    "seen": ("test", seen()),
    "heldout": ("test", tuple(sorted(held_out()))),
    "pairs": ("test", tuple(item for item in combinations() if opposite(item) and not item.direction)),
    "directions": ("test", tuple(item for item in combinations() if item.direction)),
}
WORDS = ("label", "activity")
COLUMNS = ("path", "label", "action", "direction", "colour", "seed", "split", "num_frames", "fps", "width", "height")
FRAME_RATES = (12, 15, 24, 25, 30)


@dataclass(frozen=True, kw_only=True)
class DemoVideo:
    """A rendered video and its combination."""

    combination: Combination
    frames: list[UInt8Array]  # [N] of [H, W, 3]
    fps: int
    seed: int


def render_video(combination: Combination, world: World, seed: int, *, size: int) -> DemoVideo:
    """Render all frames of a scene; `size` is the shorter side in pixels."""
    scene = make_scene(combination, world, seed, short_side=size + size % 2)
    fps = int(random_for(world, -seed - 1).choice(FRAME_RATES))
    num_frames = max(8, round(scene.duration_seconds * fps))
    frames = [draw_scene(scene, (i + 0.5) / num_frames) for i in range(num_frames)]
    return DemoVideo(combination=combination, frames=frames, fps=fps, seed=seed)


def shuffled(frames: Sequence[UInt8Array], *, parts: int, seed: int) -> list[UInt8Array]:
    """Shuffle `parts` equal pieces of a video."""
    order = np.random.default_rng(seed).permutation(parts)
    edges = np.linspace(0, len(frames), parts + 1).astype(int)
    return [frame for piece in order for frame in frames[edges[piece] : edges[piece + 1]]]


def write_video(path: Path, frames: Sequence[UInt8Array], *, fps: int, crf: int = 26) -> None:
    """Encode frames [H, W, 3] as H.264."""
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
    """Write `count` videos of a split, cycling through combinations, and `index.csv`; return its path.

    `words` selects the content of the column `label`: the whole label, or the activity without the colour.

    Raises:
        ConfigError: `split` or `words` is unknown.
    """
    for name, value, known in (("--split", split, tuple(SPLITS)), ("--words", words, WORDS)):
        if value not in known:
            raise ConfigError(f"{name}: one of {', '.join(known)} is needed, found {value!r}")
    world, group = SPLITS[split]
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "index.csv"
    with index.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for n in range(count):
            video = render_video(group[n * 7 % len(group)], world, seed + n, size=size)
            path = folder / f"{split}_{seed + n:08d}.mp4"
            write_video(path, video.frames, fps=video.fps, crf=int(random_for(world, seed + n).integers(20, 33)))
            height, width = video.frames[0].shape[:2]
            shown = video.combination
            writer.writerow(
                [path.name, getattr(shown, words), shown.action, shown.direction, shown.colour, seed + n, split,
                 len(video.frames), video.fps, width, height]
            )  # fmt: skip
    return index
