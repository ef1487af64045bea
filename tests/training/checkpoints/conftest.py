"""Weights of small CLIP models under OpenAI's names, and files of them as trainers and hubs write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import TEXT, VISION
from training.checkpoints.names import rename_weights, to_official
from training.models.registry import build_model

Weights = dict[str, torch.Tensor]


def clip_weights(*, seed: int = 0, **changes: Any) -> Weights:
    """OpenAI's names; `changes` of the two towers, e.g. `vision={"width": 96}`."""
    config = {
        "num_frames": 2,
        "vision": {**VISION, "width": 128, "heads": 2, **changes.get("vision", {})},
        "text": {**TEXT, "width": 64, "heads": 1, "vocab_size": 600, **changes.get("text", {})},
    }
    torch.manual_seed(seed)
    return rename_weights(build_model("clip", config).state_dict(), to_official)


@pytest.fixture(scope="session")
def weights() -> Weights:
    """A model of no published size: 128 and 64 wide, one head for each 64."""
    return clip_weights()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a document with torch.save."""

    def write(document: Any, name: str = "weights.pt") -> Path:
        torch.save(document, tmp_path / name)
        return tmp_path / name

    return write
