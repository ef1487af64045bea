"""A video of several rendered actions with known boundaries."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from serve.arrays import UInt8Array


@dataclass(frozen=True, kw_only=True)
class Stitched:
    """A video and what it shows: (label, start, end) in seconds."""

    path: Path
    actions: list[tuple[str, float, float]]


@pytest.fixture(scope="session")
def stitched(tmp_path_factory: pytest.TempPathFactory) -> Stitched:
    """Three actions of about six seconds each, at 24 frames a second."""
    from training.demo.captions import Combination
    from training.demo.videos import render_video, write_video

    frames: list[UInt8Array] = []
    actions = []
    shown = [("doing jumping jacks", "blue", 3), ("kicking", "green", 4), ("clapping", "purple", 5)]
    for action, colour, seed in shown:
        combination = Combination(action, "", colour)
        video = render_video(combination, "test", seed, size=160)
        places = (np.arange(6 * 24) / 24 * video.fps).astype(int) % len(video.frames)  # six seconds, looped
        start = len(frames) / 24
        frames += [_framed(video.frames[place]) for place in places]
        actions.append((combination.label, start, len(frames) / 24))
    path = tmp_path_factory.mktemp("stitched") / "actions.mp4"
    write_video(path, frames, fps=24)
    return Stitched(path=path, actions=actions)


def _framed(frame: UInt8Array, *, width: int = 160) -> UInt8Array:
    """The middle of a frame [160, W, 3] -> [160, width, 3]."""
    left = (frame.shape[1] - width) // 2
    return frame[:, left : left + width]
