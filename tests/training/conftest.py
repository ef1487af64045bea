"""Small labelled videos: frames are painted with their number, and each video begins at another one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic_video import make_video, picture
from training.config import DataConfig
from training.data.clips.reader import ClipReader, decode_settings
from training.data.clips.rules import clip_rule
from training.data.lists.rows import Entry

more_workers_than_processors = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on purpose
CLASSES = ("closing arms", "opening arms", "waving")


def write_clip(path: Path, *, first: int = 0, num_frames: int = 20) -> Path:
    """A video whose frames carry the levels from `first` on, with a bright corner that tells left from right."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def frame(index: int) -> np.ndarray:
        painted = picture(first + index, width=64, height=48)
        painted[:12, :12] = 250
        return painted

    return make_video(path, num_frames=num_frames, frames=iter([frame(i) for i in range(num_frames)]))


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four videos each, no two alike; names hold spaces."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(CLASSES):
        for i in range(4):
            write_clip(folder / name / f"clip {i}.mp4", first=4 * number + i, num_frames=17 + 4 * number + i)
    return folder


@pytest.fixture(scope="session")
def entries(class_folders: Path) -> list[Entry]:
    """The twelve videos."""
    return [
        Entry(path=path, label=number)
        for number, name in enumerate(CLASSES)
        for path in sorted((class_folders / name).iterdir())
    ]


@pytest.fixture
def make_reader() -> Callable[..., ClipReader]:
    """Makes readers of small clips."""

    def make(system: str = "xclip", **changes: object) -> ClipReader:
        data = DataConfig(source="videos", system=system, **{"image_size": 32, "num_frames": 4, **changes})  # type: ignore[arg-type]
        return ClipReader(clip_rule(data, CLASSES), decode_settings(data))

    return make
