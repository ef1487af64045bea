"""A short clip."""

from pathlib import Path

import pytest

from training.demo.captions import Combination
from training.demo.videos import render_video, write_video


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    video = render_video(Combination("bowing", None, "red"), "test", 4, size=90)
    write_video(path, video.frames, fps=video.fps)
    return path
