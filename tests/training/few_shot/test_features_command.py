"""The command `features`: arrays of a list, one row for each video."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.models import tiny_checkpoint
from tests.small_repository import shifted
from tests.training.conftest import CLASSES
from training.__main__ import app
from training.checkpoints.native_format import save_checkpoint
from training.config import ConfigError


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    save_checkpoint(path, shifted(tiny_checkpoint("clip"), 1))
    return path


def test_the_features_of_a_list_are_written(checkpoint_file: Path, class_folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    words = ["features", str(checkpoint_file), str(class_folders), "--out", str(out)]
    done = CliRunner().invoke(app, [*words, "--cache", str(tmp_path / "cache"), "--workers", "1", "--device", "cpu"])
    assert done.exit_code == 0, (done.output, done.exception)
    document = json.loads(done.stdout.splitlines()[-1])
    checkpoint = shifted(tiny_checkpoint("clip"), 1)
    model = checkpoint.build()
    with np.load(out) as arrays:
        assert {name: list(arrays[name].shape) for name in arrays.files} == document["arrays"]
        paths, labels, found = arrays["paths"], arrays["labels"], arrays["video_features"]
        assert arrays["classes"].tolist() == list(CLASSES)
        assert arrays["text_features"].shape == (1, len(CLASSES), model.embed_dim)
    assert (document["videos"], document["unreadable"]) == (12, 0)
    assert [Path(path).parent.name for path in paths.tolist()] == [CLASSES[label] for label in labels.tolist()]
    assert len({row.tobytes() for row in found}) == 12
    assert found.dtype == np.float32 and np.isfinite(found).all()


def test_another_suffix_is_refused(checkpoint_file: Path, class_folders: Path, tmp_path: Path) -> None:
    words = ["features", str(checkpoint_file), str(class_folders), "--out", str(tmp_path / "features.csv")]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, ConfigError)
    assert "--out must be a file with the suffix .npz" in str(done.exception)
