"""The check of models passes on the copied golden folder and notices a changed array."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from training.reference_check.models import check

COPIES = Path(__file__).resolve().parents[2] / "golden" / "models"


class Recorder:
    """Keeps the names of arrays beyond their tolerance."""

    def __init__(self) -> None:
        self.compared: list[str] = []
        self.failed: list[str] = []

    def compare(self, group: str, name: str, found: Any, expected: Any, *, tolerance: float) -> None:
        self.compared.append(f"{group}/{name}")
        if found.shape != expected.shape or not np.abs(found - expected).max() <= tolerance:
            self.failed.append(f"{group}/{name}")


def test_copied_models_pass_with_their_training_steps() -> None:
    report = Recorder()
    check(COPIES, report)
    assert report.failed == []
    assert {"actionclip/b/Transf_probs", "actionclip/b/train_step/total_loss", "xclip/b/prompts_delta"} <= set(
        report.compared
    )


def test_a_changed_array_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(COPIES / "xclip" / "b", tmp_path / "xclip" / "b")
    arrays = dict(np.load(tmp_path / "xclip" / "b" / "io.npz"))
    arrays["mit_block0"] = arrays["mit_block0"] + 1e-3
    np.savez(tmp_path / "xclip" / "b" / "io.npz", **arrays)
    report = Recorder()
    check(tmp_path, report)
    assert report.failed == ["xclip/b/mit_block0"]
