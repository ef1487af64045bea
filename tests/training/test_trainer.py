"""The trainer: configuration is strict, a stopped run goes on bit for bit."""

from pathlib import Path

import pytest
import torch

from training import trainer
from training.checkpoints.own import load_checkpoint
from training.config import ConfigError, TrainConfig, load_config
from training.losses import actionclip_kl, smoothed_cross_entropy, soft_cross_entropy

DEMO = Path(__file__).resolve().parents[2] / "training" / "configs" / "demo.yaml"
SMALL = [
    "model.model.num_frames=2",
    "model.model.vision={kind: small, image_size: 32, num_frames: 2, widths: [8, 8, 16, 16], embed_dim: 16}",
    "model.model.text={kind: small, context_length: 32, vocab_size: 49408, token_width: 4, width: 16, layers: 1, heads: 2, embed_dim: 16}",  # noqa: E501
    "model.model.fusion={kind: Transf, layers: 1, heads: 2, positions: 4}",
    "data.image_size=32", "data.num_frames=2", "data.workers=0",
    "run.batch_size=2", "run.evaluate_every=1000", "run.log_every=1000", "run.save_every=2", "run.threads=1",
]  # fmt: skip


def small(out: Path, steps: int) -> TrainConfig:
    return load_config(DEMO, [*SMALL, f"run.out={out}", f"run.steps={steps}"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optim.lrr=1", "unknown keys lrr"),
        ("nosuch.a=1", "unknown keys nosuch"),
        ("run.steps=many", "run.steps"),
        ("run.steps=0", "at least 1"),
        ("optim.ema=1.5", "optim.ema"),
        ("run.steps", "a.b=value"),
    ],
)
def test_a_wrong_configuration_is_named(change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(DEMO, [change])


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "training.demo.source.measure_in_process",
        lambda *_, **__: {"seen": 0.0, "held_out": 0.0, "direction": 0.0, "direction_shuffled": 0.0},
    )
    whole = load_checkpoint(trainer.train(small(tmp_path / "whole", 4)))
    config = small(tmp_path / "parts", 4)

    class Stop(Exception):
        pass

    report, seen_steps = trainer.report, []

    def stop_after_two(state, losses, config, source) -> None:  # type: ignore[no-untyped-def]
        seen_steps.append(state.step)
        if state.step == 3:
            raise Stop
        report(state, losses, config, source)

    monkeypatch.setattr(trainer, "report", stop_after_two)
    with pytest.raises(Stop):
        trainer.train(config)
    monkeypatch.setattr(trainer, "report", report)
    parts = load_checkpoint(trainer.train(config))
    assert seen_steps == [1, 2, 3]
    assert parts.provenance["steps"] == whole.provenance["steps"] == 4
    for name, value in whole.weights.items():
        assert torch.equal(value, parts.weights[name]), name


def test_soft_and_smoothed_cross_entropy_agree() -> None:
    logits, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    targets = torch.full((6, 5), 0.1 / 5)
    targets[torch.arange(6), labels] += 0.9
    assert torch.allclose(soft_cross_entropy(logits, targets), smoothed_cross_entropy(logits, labels), atol=1e-6)


def test_kl_is_least_where_equal_labels_agree() -> None:
    labels = torch.tensor([0, 1, 0])
    agreeing = 10.0 * (labels[:, None] == labels[None, :]).float()
    assert actionclip_kl(agreeing, labels) < 1e-5 < actionclip_kl(torch.zeros(3, 3), labels)
