"""Small checkpoints as files, and a data set whose labels two of them tell apart to different degrees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.models import tiny_actionclip, tiny_xclip
from tests.training.conftest import CLASSES
from training.checkpoints.native_format import save_checkpoint
from training.config import DataConfig, RunConfig, TrainConfig, as_dict
from training.data.lists.rows import Entry
from training.data.shards.writing import write_shards


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`xclip.pt` with prompt head, from a run on four shots, and `actionclip.pt`, which knows a class more."""
    folder = tmp_path_factory.mktemp("checkpoints")
    config = TrainConfig(run=RunConfig(out="runs/few", steps=30), data=DataConfig(shots=4, shots_seed=2))
    trained = replace(tiny_xclip(), provenance={"config": as_dict(config)}, training_state={"step": 30})
    save_checkpoint(folder / "xclip.pt", trained)
    save_checkpoint(folder / "actionclip.pt", replace(tiny_actionclip("Transf"), labels=(*CLASSES, "bowing")))
    return folder


@pytest.fixture(scope="session")
def video_list(class_folders: Path, entries: list[Entry]) -> Path:
    """The twelve videos and one that is none, as an X-CLIP list with its class names beside it."""
    folder = class_folders.parent
    (folder / "broken.mp4").write_bytes(b"no video at all" * 100)
    lines = [f"{entry.path.relative_to(folder)} {entry.label}" for entry in entries]
    (folder / "list.txt").write_text("\n".join([*lines[:5], "broken.mp4 1", *lines[5:]]))
    (folder / "classes.csv").write_text("id,name\n" + "\n".join(f"{k},{name}" for k, name in enumerate(CLASSES)))
    return folder / "list.txt"


@pytest.fixture(scope="session")
def frame_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve folders of pictures and an empty one, as an ActionCLIP list with its class names beside it."""
    folder = tmp_path_factory.mktemp("frames")
    random, lines = np.random.default_rng(0), []
    for number in range(13):
        (folder / f"clip {number}").mkdir()
        for frame in range(1, 6 if number != 5 else 1):
            picture = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(picture).resize((64, 48)).save(folder / f"clip {number}" / f"img_{frame:05d}.jpg")
        lines.append(f"clip {number} 5 {number % 3}")
    (folder / "list.txt").write_text("\n".join(lines))
    (folder / "classes.csv").write_text("id,name\n" + "\n".join(f"{k},{name}" for k, name in enumerate(CLASSES)))
    return folder / "list.txt"


@pytest.fixture(scope="session")
def shards(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve videos in shards of five, in an order of their own."""
    folder = tmp_path_factory.mktemp("shards") / "set"
    write_shards(entries, CLASSES, folder, samples_per_shard=5, seed=0)
    return folder
