"""The averaged weights of a run: the published update, and runs that an earlier version began."""

import lzma
from pathlib import Path

import pytest
import torch

from training.checkpoints.native_format import load_checkpoint
from training.config import load_config
from training.models.base import VideoTextModel
from training.models.registry import build_model
from training.run_state import moving_average
from training.trainer import train

FIXTURES = Path(__file__).parent / "fixtures" / "averaged_run"


def small_model(seed: int) -> VideoTextModel:
    torch.manual_seed(seed)
    vision = {"kind": "clip", "image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "heads": 2, "embed_dim": 8}
    text = {
        "kind": "clip", "context_length": 8, "vocab_size": 32, "width": 16, "layers": 1, "heads": 2, "embed_dim": 8,
    }  # fmt: skip
    return build_model("clip", {"num_frames": 2, "vision": vision, "text": text})


@pytest.mark.parametrize("first_step", [0, 7], ids=["fresh", "resumed"])
def test_the_average_forgets_its_start_first(first_step: int) -> None:
    """After step s (from 0) the decay is min(ema, (s + 1) / (s + 10)); the same numbers bit for bit."""
    model, ema = small_model(0), 0.6
    average = moving_average(model, ema)
    average.n_averaged.fill_(first_step + 1)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(first_step, first_step + 12):
        with torch.no_grad():
            for value in model.parameters():
                value.add_(torch.randn_like(value))
        average.update_parameters(model)
        decay = min(ema, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            expected[name].lerp_(value, 1 - decay)
    found = average.module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert not average.module.training


def test_a_run_with_averaged_weights_of_an_earlier_version_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`step2.pt` was written two steps into this run by the version before averages were torch's own.

    `expected.pt` holds that version's averaged weights after the third step. Both add the same numbers in the same
    order; kernels of other processors may round otherwise, by far less than the 1e-3 a step moves a weight.
    """
    for name, place in (("start", "start.pt"), ("step2", "run/checkpoint.pt"), ("expected", "expected.pt")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(lzma.decompress((FIXTURES / f"{name}.pt.xz").read_bytes()))
    monkeypatch.chdir(tmp_path)
    before = load_checkpoint(Path("run/checkpoint.pt"))
    assert before.training_state["step"] == 2
    after = load_checkpoint(train(load_config(FIXTURES / "config.yaml")))
    assert after.training_state["step"] == 3
    expected = torch.load("expected.pt", weights_only=True)
    assert max(float((value - before.weights[name]).abs().max()) for name, value in expected.items()) > 1e-4
    for name, value in expected.items():
        torch.testing.assert_close(after.weights[name], value, atol=1e-5, rtol=0)
